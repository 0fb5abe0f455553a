// coffer keys: the API keys in the configuration files of a vault. The files keep their comments.
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { type Document, isMap, isSeq, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml'
import { assert } from '../assert.ts'
import { systemClock } from '../clock.ts'
import { OperatorError, UsageError } from '../errors.ts'
import { checkReplaceable, replaceFile } from '../files.ts'
import { hashKey } from '../http/auth.ts'
import { type Config, ConfigError, type OwnerConfig, parseConfig, readConfig } from '../node/config.ts'
import { newApiKey } from './api-key.ts'
import { runningNode, sendHangUp } from './local/node-process.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

type Options = {
  readonly config: readonly string[]
  readonly owner?: string
  readonly id?: string
  readonly json?: boolean
}

export function registerKeys(program: Command): void {
  const keys = program
    .command('keys')
    .description('add, remove and list API keys')
    .addHelpText(
      'after',
      `
Name the configuration files of all nodes of the vault, so that a key is known to all of them.
A node that runs on this machine re-reads its owners (SIGHUP); on other machines send the signal
yourself.

Example:
  $ coffer keys add --config ./vault/n1.yaml --owner clinic-a
  $ coffer keys list --config ./vault/n1.yaml
  $ coffer keys remove --config ./vault/n1.yaml --owner clinic-a --id k1`,
    )
  keys
    .command('add')
    .description('make a key and print it, once; a new owner is added, too')
    .requiredOption('--config <file...>', 'the configuration files of all nodes')
    .requiredOption('--owner <name>', 'the owner of the key')
    .option('--id <id>', 'the name of the key in logs and histories (default: k1, k2, …)')
    .option('--json', 'print {"owner","id","key"}')
    .addHelpText(
      'after',
      '\nExample:\n  $ coffer keys add --config ./vault/n1.yaml --owner clinic-a --id laptop',
    )
    .action(add)
  keys
    .command('remove')
    .description('revoke a key; what the owner has stored stays')
    .requiredOption('--config <file...>', 'the configuration files of all nodes')
    .requiredOption('--owner <name>', 'the owner of the key')
    .option('--id <id>', 'which key')
    .option('--json', 'print {"owner","id","removed":true}')
    .addHelpText(
      'after',
      '\nExample:\n  $ coffer keys remove --config ./vault/n1.yaml --owner clinic-a --id k1',
    )
    .action(remove)
  keys
    .command('list')
    .description('list the keys of all owners, or of one owner; only hashes of keys are stored')
    .requiredOption('--config <file...>', 'the configuration files of all nodes')
    .option('--owner <name>', 'only this owner')
    .option('--json', 'print {"owners":[{"id","keys":[{"id","sha256"}]}]}')
    .addHelpText('after', '\nExample:\n  $ coffer keys list --config ./vault/n1.yaml --owner clinic-a')
    .action(list)
}

function add({ config: files, owner = '', id: wanted, json }: Options): void {
  const configs = files.map(readConfig)
  const taken = configs.flatMap((config) => keysOf(config, owner).map((key) => key.id))
  const id = wanted ?? nextId(taken)
  if (taken.includes(id))
    throw new OperatorError(`${owner} has a key ${id} already`, {
      hint: 'choose another --id, or remove that key first',
    })
  const key = newApiKey(systemClock)
  edit(configs, (document) => {
    const entry = document.createNode({ id, sha256: hashKey(key) })
    const found = ownerNode(document, owner)
    if (!found) ownersNode(document).add(document.createNode({ id: owner, keys: [entry] }))
    else keysNode(document, found).add(entry)
  })
  if (json) printJson({ owner, id, key })
  else {
    note(`Key ${id} of ${owner}, shown only now:`)
    print(key)
  }
  reloadNodes(configs)
}

function remove({ config: files, owner = '', id, json }: Options): void {
  if (id === undefined) throw new UsageError('--id is missing', { hint: '`coffer keys list` shows the ids' })
  const configs = files.map(readConfig)
  const having = configs.filter((config) => keysOf(config, owner).some((key) => key.id === id))
  if (having.length === 0)
    throw new OperatorError(`${owner} has no key ${id}`, { hint: '`coffer keys list` shows the keys' })
  edit(having, (document) => {
    const found = ownerNode(document, owner)
    const list = found && keysNode(document, found)
    const index = list?.items.findIndex((item) => isMap(item) && item.get('id') === id) ?? -1
    if (index >= 0) list?.delete(index)
  })
  if (json) printJson({ owner, id, removed: true })
  else note(`key ${id} of ${owner} is removed`)
  reloadNodes(having)
}

function list({ config: files, owner, json }: Options): void {
  const configs = files.map(readConfig)
  const wanted = configs.map(({ owners }) => owners.filter(({ id }) => owner === undefined || id === owner))
  if (owner !== undefined && wanted.every((owners) => owners.length === 0))
    throw new OperatorError(`there is no owner ${owner}`, { hint: 'leave out --owner to see all owners' })
  const all = merge(wanted)
  if (json) {
    printJson({ owners: all })
    return
  }
  const rows = all.flatMap(({ id, keys }) =>
    keys.map((key) => [id, key.id, `${key.sha256.slice(0, 16)}…`, missingIn(configs, id, key.sha256)]),
  )
  const none = all.filter(({ keys }) => keys.length === 0).map(({ id }) => [id, '(no key)', '', ''])
  print(table([['owner', 'key', 'sha256', ''], ...rows, ...none]))
}

/** The owners of several files; the same key of the same owner once. */
function merge(lists: readonly (readonly OwnerConfig[])[]): OwnerConfig[] {
  const owners = new Map<string, OwnerConfig['keys'][number][]>()
  for (const { id, keys } of lists.flat()) {
    const known = owners.get(id) ?? []
    owners.set(id, known)
    known.push(...keys.filter((key) => !known.some(({ sha256 }) => sha256 === key.sha256)))
  }
  return [...owners].map(([id, keys]) => ({ id, keys }))
}

function missingIn(configs: readonly Config[], owner: string, sha256: string): string {
  const without = configs.filter((config) => !keysOf(config, owner).some((key) => key.sha256 === sha256))
  return without.length === 0 ? '' : `missing in ${without.map(({ node }) => node).join(', ')}`
}

function keysOf(config: Config, owner: string): OwnerConfig['keys'] {
  return config.owners.find(({ id }) => id === owner)?.keys ?? []
}

/** One above the highest number: histories may still name the number of a removed key. */
function nextId(taken: readonly string[]): string {
  const numbers = taken.map((id) => Number(/^k([1-9]\d{0,8})$/.exec(id)?.[1] ?? 0))
  return `k${Math.max(0, ...numbers) + 1}`
}

/** Edits all files, or none if a result is not valid. Throws UsageError with the faults, FileError. */
function edit(configs: readonly Config[], change: (document: Document) => void): void {
  const edited = configs.map(({ file }) => {
    const document = parseDocument(readFileSync(file, 'utf8'), { schema: 'core' })
    change(document)
    const text = document.toString({ lineWidth: 0 })
    try {
      parseConfig(text, file)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      const faults = error.faults.map(({ path, message }) => `  ${path}: ${message}`)
      throw new UsageError(['nothing was written:', ...faults].join('\n'))
    }
    return { file, text }
  })
  for (const { file } of edited) checkReplaceable(file)
  for (const { file, text } of edited) replaceFile(file, text)
}

/** readConfig has checked the file: the owners are a list. */
function ownersNode(document: Document): YAMLSeq {
  const owners = document.get('owners')
  assert(isSeq(owners), 'the owners of a valid configuration are a list')
  return owners
}

function ownerNode(document: Document, owner: string): YAMLMap | undefined {
  return ownersNode(document)
    .items.filter(isMap)
    .find((item) => item.get('id') === owner)
}

function keysNode(document: Document, owner: YAMLMap): YAMLSeq {
  const keys = owner.get('keys')
  if (isSeq(keys)) {
    // A key added to `keys: []` would stay on the same line.
    if (keys.items.length === 0) keys.flow = false
    return keys
  }
  const made = document.createNode([])
  made.flow = false
  owner.set('keys', made)
  return made
}

function reloadNodes(configs: readonly Config[]): void {
  for (const config of configs) {
    const now = runningNode(config)
    if (!now) {
      note(`node ${config.node} is not running here: it reads the file when it starts`)
      continue
    }
    sendHangUp(config, now)
    note(`node ${config.node} (process ${now.pid}) re-reads its owners`)
  }
}
