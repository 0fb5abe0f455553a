// coffer init: the files of one new node, or of three nodes with certificates, and an API key for each owner.
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { randomHex, systemClock } from '../clock.ts'
import { Keyring } from '../crypto/keyring.ts'
import { OperatorError, UsageError } from '../errors.ts'
import { replaceFile } from '../files.ts'
import { createAuthority, issueCertificate } from '../node/certificates.ts'
import { ConfigError, parseConfig } from '../node/config.ts'
import { newApiKey } from './api-key.ts'
import { configText, LAST_PORT, portOf } from './config-text.ts'
import { renew } from './init-renew.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

const NODES = ['n1', 'n2', 'n3']

type InitOptions = {
  readonly dir: string
  readonly owners: readonly string[]
  readonly fields: readonly string[]
  readonly port: number
}

/** `owners`: the API key of each owner, stored nowhere else. */
type NewVault = {
  readonly owners: Readonly<Record<string, string>>
  readonly nodes: readonly string[]
  /** The configuration file of each node. */
  readonly configs: readonly string[]
  /** The command to start the vault. */
  readonly next: string
}

export function registerInit(program: Command): void {
  program
    .command('init')
    .description('write the files of a new vault: keyring, configuration, API keys')
    .argument('<dir>', 'an empty or a new directory')
    .option('--nodes <count>', 'how many nodes: 1, or 3 with an etcd member each', '1')
    .option('--owner <name>', 'an owner; can be repeated (default: "default")', collect)
    .option('--field <path>', 'a field of records to replace by tokens; can be repeated', collect)
    .option('--port <port>', 'the port to listen on, on 127.0.0.1', '8200')
    .option('--renew', 'make new certificates for the nodes of an existing <dir>')
    .option('--json', 'print {"owners":{NAME:KEY},"nodes":[URL]}; with --renew {"renewed":[NODE]}')
    .addHelpText(
      'after',
      `
Writes keyring.json and n1.yaml, readable by you alone. The API keys are printed once; only their
hashes are stored. Keep a copy of keyring.json in a safe place: without it no data can be read.

With --nodes 3 also n2.yaml, n3.yaml, and tls/: a private authority (CA), and a certificate for the
etcd member of each node. The nodes listen on PORT, PORT+10 and PORT+20, their members on the two
ports after each. --renew makes new certificates, signed by the same CA; a node uses its new
certificate after a restart. tls/ca.key is only needed for --renew: it may be kept elsewhere.

Example:
  $ coffer init ./vault --owner clinic-a --owner clinic-b --field patient.ssn --field 'contacts[].phone'
  $ coffer start --config ./vault/n1.yaml

  $ coffer init ./cluster --nodes 3 --owner clinic-a
  $ coffer cluster start ./cluster`,
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

async function init(dir: string, options: Options, command: Command): Promise<void> {
  if (options.renew) {
    for (const name of ['nodes', 'owner', 'field', 'port']) {
      if (command.getOptionValueSource(name) === 'cli')
        throw new UsageError(`--renew only makes certificates`, { hint: `leave out --${name}` })
    }
    return renew(dir, options.json ?? false)
  }
  const { nodes, owner: owners = ['default'], field: fields = [] } = options
  if (nodes !== '1' && nodes !== '3') throw new UsageError('--nodes must be 1 or 3')
  const port = readPort(options.port, nodes === '3')
  const made = await (nodes === '3' ? initCluster : initDirectory)({ dir, owners, fields, port })
  if (options.json) printJson({ owners: made.owners, nodes: made.nodes })
  else printNewVault(made)
}

function readPort(text: string, cluster: boolean): number {
  const port = Number(text)
  const [least, most] = cluster ? [1, 65535 - LAST_PORT] : [0, 65535]
  if (/^\d+$/.test(text) && port >= least && port <= most) return port
  const why = cluster ? `(three nodes use ports up to the first port + ${LAST_PORT})` : '(0: any free port)'
  throw new UsageError(`--port must be a number from ${least} to ${most} ${why}`)
}

/** Prints the API keys on stdout, and the next steps on stderr. */
export function printNewVault(vault: NewVault): void {
  note('The API keys, shown only now:')
  print(table([['owner', 'API key'], ...Object.entries(vault.owners)]))
  note(`\nKeep a copy of keyring.json in a safe place: without it no data can be read.`)
  note(`Next: ${vault.next}`)
}

/**
 * Writes all files of one node, or none. Throws UsageError for invalid names, OperatorError if `dir` is not
 * empty.
 */
export function initDirectory({ dir, owners, fields, port }: InitOptions): NewVault {
  const keys = owners.map((owner) => [owner, newApiKey(systemClock)] as const)
  const [node] = NODES
  const name = `${node}.yaml`
  const yaml = configText({ node, keys, fields, port })
  checkNames(yaml, join(dir, name))
  writeAll(dir, [
    ['keyring.json', Keyring.create(systemClock).serialize()],
    [name, yaml],
  ])
  const config = join(dir, name)
  return {
    owners: Object.fromEntries(keys),
    nodes: [`http://127.0.0.1:${port}`],
    configs: [config],
    next: `coffer start --config ${config}`,
  }
}

/** Writes all files of three nodes, or none. Throws UsageError, OperatorError. */
export async function initCluster({ dir, owners, fields, port: first }: InitOptions): Promise<NewVault> {
  const keys = owners.map((owner) => [owner, newApiKey(systemClock)] as const)
  const nodes = NODES.map((node, i) => ({ node, port: portOf(first, i) }))
  const token = `coffer-${randomHex(systemClock, 16)}`
  const cluster = { nodes, token }
  const configs = nodes.map(
    (node) => [`${node.node}.yaml`, configText({ ...node, keys, fields, cluster })] as const,
  )
  for (const [name, yaml] of configs) checkNames(yaml, join(dir, name))
  const authority = await createAuthority(systemClock)
  const files: (readonly [name: string, text: string])[] = [
    ['keyring.json', Keyring.create(systemClock).serialize()],
    ['tls/ca.crt', authority.cert],
    ['tls/ca.key', authority.key],
  ]
  for (const { node } of nodes) {
    const { cert, key } = await issueCertificate(authority, { node }, systemClock)
    files.push([`tls/${node}.crt`, cert], [`tls/${node}.key`, key])
  }
  writeAll(dir, [...files, ...configs])
  return {
    owners: Object.fromEntries(keys),
    nodes: nodes.map(({ port }) => `http://127.0.0.1:${port}`),
    configs: configs.map(([name]) => join(dir, name)),
    next: `coffer cluster start ${dir}`,
  }
}

/** Names are relative to `dir`; all files have mode 0600. */
function writeAll(dir: string, files: readonly (readonly [name: string, text: string])[]): void {
  const existed = existsSync(dir)
  if (existed && readdirSync(dir).length > 0)
    throw new OperatorError(`${resolve(dir)} is not empty`, {
      hint: 'name another directory, or empty the directory',
    })
  try {
    for (const [name, text] of files) {
      makeDirectories(dirname(join(dir, name)))
      replaceFile(join(dir, name), text)
    }
  } catch (error) {
    // The directory was empty before: all its files are of this command.
    const written = existsSync(dir) ? readdirSync(dir) : []
    for (const name of written) rmSync(join(dir, name), { recursive: true, force: true })
    if (!existed) rmSync(dir, { recursive: true, force: true })
    throw error
  }
}

/** Node's own call with `recursive` never ends below /proc. */
function makeDirectories(path: string): void {
  if (existsSync(path)) return
  makeDirectories(dirname(path))
  mkdirSync(path, { mode: 0o700 })
}

/** Checks the names by the rules of the configuration. Throws UsageError with every fault. */
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
    throw new UsageError(['nothing was written:', ...lines].join('\n'))
  }
}
