// coffer init: the files of a new node, and an API key for each owner.
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { systemClock } from '../clock.ts'
import { Keyring } from '../crypto/keyring.ts'
import { hashKey } from '../http/auth.ts'
import { ConfigError, parseConfig } from '../node/config.ts'
import { writePrivateFile } from '../node/private.ts'
import { newApiKey } from './apikey.ts'
import { Failure, USED_WRONGLY } from './failure.ts'
import { note, print, printJson, table } from './terminal.ts'

const NODE = 'n1'

export type InitOptions = {
  readonly dir: string
  readonly owners: readonly string[]
  readonly fields: readonly string[]
  readonly port: number
}

/** `owners` has each owner's API key: it stands nowhere else. */
export type Made = {
  readonly owners: Readonly<Record<string, string>>
  readonly nodes: readonly string[]
  /** The configuration file of each node. */
  readonly configs: readonly string[]
}

export function registerInit(program: Command): void {
  program
    .command('init')
    .description('write the files of a new node: keyring, configuration, API keys')
    .argument('<dir>', 'a directory that is empty or not there yet')
    .option('--nodes <count>', 'how many nodes', '1')
    .option('--owner <name>', 'an owner; can be repeated (default: "default")', collect)
    .option('--field <path>', 'a field of records that becomes a token; can be repeated', collect)
    .option('--port <port>', 'the port to listen on, on 127.0.0.1', '8200')
    .option('--renew', 'new certificates')
    .option('--json', 'print {"owners":{NAME:KEY},"nodes":[URL]}')
    .addHelpText(
      'after',
      `
Writes keyring.json and ${NODE}.yaml, both readable by you alone. The API keys are printed once; only their
hashes are stored. Keep a copy of keyring.json in a safe place: without it nothing can be read again.

Example:
  $ coffer init ./vault --owner clinic-a --owner clinic-b --field patient.ssn --field 'contacts[].phone'
  $ coffer start --config ./vault/${NODE}.yaml`,
    )
    .action(init)
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}

type Options = {
  readonly nodes: string
  readonly owner?: readonly string[]
  readonly field?: readonly string[]
  readonly port: string
  readonly renew?: boolean
  readonly json?: boolean
}

function init(dir: string, options: Options): void {
  if (options.renew) throw new Failure('--renew is not part of this version', USED_WRONGLY)
  if (options.nodes === '3') throw new Failure('--nodes 3 is not part of this version', USED_WRONGLY)
  if (options.nodes !== '1') throw new Failure('--nodes must be 1', USED_WRONGLY)
  const port = Number(options.port)
  if (!/^\d+$/.test(options.port) || port > 65535)
    throw new Failure('--port must be a number from 0 to 65535 (0: any that is free)', USED_WRONGLY)
  const { owner: owners = ['default'], field: fields = [] } = options
  const made = initDirectory({ dir, owners, fields, port })
  if (options.json) printJson({ owners: made.owners, nodes: made.nodes })
  else tell(made)
}

/** For a person: keys on stdout, what to do with them on stderr. */
export function tell(made: Made): void {
  note('The API keys, shown this once:')
  print(table([['owner', 'API key'], ...Object.entries(made.owners)]))
  note(`\nKeep a copy of keyring.json in a safe place: without it nothing can be read again.`)
  note(`Next: coffer start --config ${made.configs[0]}`)
}

/** Writes everything or nothing. Throws Failure: 2 for names that cannot be, 1 where `dir` is not empty. */
export function initDirectory({ dir, owners, fields, port }: InitOptions): Made {
  const keys = owners.map((owner) => [owner, newApiKey(systemClock)] as const)
  const config = join(dir, `${NODE}.yaml`)
  const yaml = configText({ keys, fields, port })
  checkNames(yaml, config)
  const there = existsSync(dir)
  if (there && readdirSync(dir).length > 0)
    throw new Failure(`${resolve(dir)} is not empty: name another directory, or empty this one`)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  try {
    writePrivateFile(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize())
    writePrivateFile(config, yaml)
  } catch (error) {
    for (const name of readdirSync(dir)) rmSync(join(dir, name), { force: true })
    if (!there) rmSync(dir, { recursive: true, force: true })
    throw error
  }
  return { owners: Object.fromEntries(keys), nodes: [`http://127.0.0.1:${port}`], configs: [config] }
}

/** The configuration's own rules judge the names. Throws Failure with every fault. */
function checkNames(yaml: string, file: string): void {
  try {
    parseConfig(yaml, file)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const named = (path: string): string =>
      path.replace(/(owners|tokenize\.fields)\[(\d+)\](\.id)?/g, (_, list, index) => {
        return `--${list === 'owners' ? 'owner' : 'field'} no. ${Number(index) + 1}`
      })
    const lines = error.faults.map(({ path, message }) => `  ${named(path)}: ${named(message)}`)
    throw new Failure(['nothing was written:', ...lines].join('\n'), USED_WRONGLY)
  }
}

type Contents = {
  readonly keys: readonly (readonly [owner: string, key: string])[]
  readonly fields: readonly string[]
  readonly port: number
}

function configText({ keys, fields, port }: Contents): string {
  // A name that YAML would read as something else comes in quotes.
  const scalar = (text: string): string => stringify(text, { lineWidth: 0 }).trimEnd()
  const owners = keys.flatMap(([owner, key]) => [
    `  - id: ${scalar(owner)}`,
    '    keys:',
    '      - id: k1',
    `        sha256: ${scalar(hashKey(key))}`,
  ])
  const paths = fields.map((field) => `    - ${scalar(field)}`)
  return `# One node of Coffer: \`coffer start --config ${NODE}.yaml\` runs it.
# Paths are relative to this file. It is read once, at the start; the owners, and the keyring, also
# when the node gets SIGHUP.

node: ${NODE}

# Beyond this machine only with tls: { cert: FILE, key: FILE }.
listen: 127.0.0.1:${port}

# The ledger is in here (the truth: back it up), the replica (disposable) and the event log.
data: ./${NODE}

# The root keys. Keep a copy in a safe place: without it nothing that is stored can be read again.
keyring: ./keyring.json

# Who may ask. A key is shown once, when it is made; here is its SHA-256.
# \`coffer keys add --config ${NODE}.yaml --owner NAME\` adds a key, and the owner where it is new.
owners:
${owners.join('\n')}

# The places in records that become tokens: dotted paths, [] is every element of a list.
tokenize:
  fields:${paths.length === 0 ? ' []' : `\n${paths.join('\n')}`}

# What one request may take; these are the defaults.
# limits: { body_bytes: 16777216, values: 100000, value_bytes: 32768, answer_bytes: 67108864 }

ledger:
  kind: embedded
`
}
