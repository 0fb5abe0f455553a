// coffer keys: the API keys in the configuration files of a vault. The files keep their comments.
import { readFileSync, realpathSync } from 'node:fs'
import type { Command } from 'commander'
import { type Document, isMap, isSeq, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml'
import { assert } from '../assert.ts'
import { systemClock } from '../clock.ts'
import { OperatorError, UsageError } from '../errors.ts'
import { checkReplaceable, replaceFile } from '../files.ts'
import { hashKey } from '../http/auth.ts'
import { type Config, ConfigError, parseConfig, readConfig } from '../node/config.ts'
import type { KeyConfig, OwnerConfig } from '../node/owners.ts'
import { parseInstant, RIGHTS } from '../wire.ts'
import { newApiKey } from './api-key.ts'
import { whileLocked } from './local/locked-files.ts'
import { untilInForce } from './local/owners-in-force.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

/** For a key that sees /whoami and /status alone. */
const NO_RIGHT = 'none'
const MAY = `one of ${RIGHTS.join(', ')}; can be repeated, or ${NO_RIGHT} (default: all)`

type Options = {
  readonly config: readonly string[]
  readonly owner?: string
  readonly id?: string
  readonly json?: boolean
}

type AddOptions = Options & {
  readonly may?: readonly string[]
  readonly prefix?: string
  readonly until?: string
  readonly perDay?: string
}

export function registerKeys(program: Command): void {
  const keys = program
    .command('keys')
    .description('add, remove and list API keys')
    .addHelpText(
      'after',
      `
Name the configuration files of all nodes of the vault, so that a key is known to all of them.
A node that runs on this machine re-reads its owners (SIGHUP), and the command waits, at most 10 s,
until the owners of its file are in force there; if not, it ends with exit code 1 and says why. On
other machines send the signal yourself, and compare "owners" of \`coffer status --json\`.

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
    .option('--may <right>', MAY, collect)
    .option('--prefix <beginning>', 'only secrets whose names begin so')
    .option('--until <instant>', 'the end of the key, as 2027-01-31T12:00:00Z')
    .option('--per-day <count>', 'at most so many values detokenized a day on each node')
    .option('--json', 'print {"owner","id","key"}')
    .addHelpText(
      'after',
      `
Example:
  $ coffer keys add --config ./vault/n1.yaml --owner clinic-a --id form --may tokenize
  $ coffer keys add --config ./vault/n1.yaml --owner clinic-a --may secrets:read --prefix app/prod/`,
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
    .option('--json', 'print {"owners":[{"id","keys":[{"id","sha256","may",…}],"removed":[…]}]}')
    .addHelpText('after', '\nExample:\n  $ coffer keys list --config ./vault/n1.yaml --owner clinic-a')
    .action(list)
}

async function add({ config: files, owner = '', id: wanted, json, ...given }: AddOptions): Promise<void> {
  const key = newApiKey(systemClock)
  const limits = limitsOf(given)
  const {
    configs,
    result: id,
    failure,
  } = await edit(files, (before) => {
    const id = wanted ?? nextId(before.flatMap((config) => idsOf(config, owner)))
    refuseTaken(before, owner, id)
    const change = (document: Document): void => {
      const entry = document.createNode({ id, sha256: hashKey(key), ...limits })
      const found = ownerNode(document, owner)
      if (!found) ownersNode(document).add(document.createNode({ id: owner, keys: [entry] }))
      else keysNode(document, found).add(entry)
    }
    return { change, result: id }
  })
  if (json) printJson({ owner, id, key })
  else {
    note(`Key ${id} of ${owner}, shown only now:`)
    print(key)
  }
  if (failure) throw failure
  warnOf(given)
  await untilInForce(configs)
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}

/** The members of the key in the file, whose check says what is wrong with them. */
function limitsOf({ may, prefix, until, perDay }: Omit<AddOptions, 'config'>): object {
  return {
    ...(may === undefined ? {} : { may: may.length === 1 && may[0] === NO_RIGHT ? [] : may }),
    ...(prefix === undefined ? {} : { prefix }),
    ...(until === undefined ? {} : { until }),
    ...(perDay === undefined ? {} : { resolve_per_day: /^\d+$/.test(perDay) ? Number(perDay) : perDay }),
  }
}

/** Tells what is valid and probably not meant. */
function warnOf({ prefix, until }: Pick<AddOptions, 'prefix' | 'until'>): void {
  if (prefix !== undefined && !prefix.endsWith('/'))
    note(
      `warning: the prefix does not end in /, so ${prefix}-other begins so, too: mostly ${prefix}/ is meant`,
    )
  const end = until === undefined ? undefined : parseInstant(until)
  if (end !== undefined && end <= systemClock.now())
    note('warning: --until has passed, so no node knows the key: add another key with a later --until')
}

/** Throws OperatorError where the id is of a key of the owner, or was of a removed key. */
function refuseTaken(configs: readonly Config[], owner: string, id: string): void {
  if (configs.some((config) => keysOf(config, owner).some((key) => key.id === id)))
    throw new OperatorError(`${owner} has a key ${id} already`, {
      hint: 'choose another --id, or remove that key first',
    })
  const gone = configs.flatMap((config) => removedOf(config, owner)).find((key) => key.id === id)
  if (gone)
    throw new OperatorError(`${owner} had a key ${id}, removed at ${gone.removed}`, {
      hint: 'choose another --id: histories name keys by their ids',
    })
}

/** A key that is removed already is removed again: the nodes may not have read the files yet. */
async function remove({ config: files, owner = '', id, json }: Options): Promise<void> {
  if (id === undefined) throw new UsageError('--id is missing', { hint: '`coffer keys list` shows the ids' })
  const removed = new Date(systemClock.now()).toISOString()
  const { configs, failure } = await edit(files, (before) => {
    if (!before.some((config) => idsOf(config, owner).includes(id)))
      throw new OperatorError(`${owner} has no key ${id}`, { hint: '`coffer keys list` shows the keys' })
    return { change: (document) => setRemoved(document, { owner, id, removed }), result: undefined }
  })
  if (failure) throw failure
  await untilInForce(configs)
  if (json) printJson({ owner, id, removed: true })
  else note(`key ${id} of ${owner} is removed`)
}

/** Also where the file lacks the key: the id is not given again there either. */
function setRemoved(
  document: Document,
  { owner, id, removed }: { readonly owner: string; readonly id: string; readonly removed: string },
): void {
  const found = ownerNode(document, owner)
  if (!found) return
  const keys = keysNode(document, found)
  const key = keys.items.filter(isMap).find((item) => item.get('id') === id)
  if (key?.has('removed')) return
  if (!key) {
    keys.add(document.createNode({ id, removed }))
    return
  }
  for (const { key: name } of [...key.items]) if (String(name) !== 'id') key.delete(name)
  key.set('removed', removed)
}

function list({ config: files, owner, json }: Options): void {
  const configs = files.map(readConfig)
  const wanted = configs.map(({ owners }) => owners.filter(({ id }) => owner === undefined || id === owner))
  if (owner !== undefined && wanted.every((owners) => owners.length === 0))
    throw new OperatorError(`there is no owner ${owner}`, { hint: 'leave out --owner to see all owners' })
  const all = merge(wanted)
  if (json) {
    printJson({ owners: all.map(({ keys, ...owner }) => ({ ...owner, keys: keys.map(shown) })) })
    return
  }
  const rows = all.flatMap(({ id, keys, removed }) => [
    ...keys.map((key) => [
      ...[id, key.id, `${key.sha256.slice(0, 16)}…`],
      [...limitTexts(key), ...differences(configs, id, key)].join('; '),
    ]),
    ...removed.map((key) => [id, key.id, '', `removed at ${key.removed}`]),
  ])
  const none = all.filter(({ keys }) => keys.length === 0).map(({ id }) => [id, '(no key)', '', ''])
  print(table([['owner', 'key', 'sha256', ''], ...rows, ...none]))
}

/** As `GET /whoami` shows a key; null for the limits that it does not have. */
function shown(key: KeyConfig): object {
  const { id, sha256, may = RIGHTS, prefix = null, until, resolve_per_day = null } = key
  return { id, sha256, may, prefix, until: until === undefined ? null : instant(until), resolve_per_day }
}

function instant(time: number): string {
  return new Date(time).toISOString()
}

/** Nothing for a key that may do all that its owner may. */
function limitTexts({ may, prefix, until, resolve_per_day: perDay }: KeyConfig): string[] {
  const ended = until !== undefined && until <= systemClock.now()
  return [
    ...(may === undefined ? [] : [`may ${may.join(', ') || 'nothing'}`]),
    ...(prefix === undefined ? [] : [`prefix ${prefix}`]),
    ...(until === undefined ? [] : [`${ended ? 'ended at' : 'until'} ${instant(until)}`]),
    ...(perDay === undefined ? [] : [`${perDay} values a day`]),
  ]
}

/** The owners of several files; the same key of the same owner once. */
function merge(lists: readonly (readonly OwnerConfig[])[]): OwnerConfig[] {
  const owners = new Map<
    string,
    { keys: OwnerConfig['keys'][number][]; removed: OwnerConfig['removed'][number][] }
  >()
  for (const { id, keys, removed } of lists.flat()) {
    const known = owners.get(id) ?? { keys: [], removed: [] }
    owners.set(id, known)
    known.keys.push(...keys.filter((key) => !known.keys.some(({ sha256 }) => sha256 === key.sha256)))
    known.removed.push(...removed.filter((key) => !known.removed.some((each) => each.id === key.id)))
  }
  return [...owners].map(([id, { keys, removed }]) => ({ id, keys, removed }))
}

/** The nodes whose files lack the key, or give it other limits. */
function differences(configs: readonly Config[], owner: string, key: KeyConfig): string[] {
  const nodes = { 'missing in': [] as string[], 'other limits in': [] as string[] }
  for (const config of configs) {
    const there = keysOf(config, owner).find(({ sha256 }) => sha256 === key.sha256)
    if (!there) nodes['missing in'].push(config.node)
    else if (JSON.stringify(there) !== JSON.stringify(key)) nodes['other limits in'].push(config.node)
  }
  return Object.entries(nodes)
    .filter(([, names]) => names.length > 0)
    .map(([what, names]) => `${what} ${names.join(', ')}`)
}

function keysOf(config: Config, owner: string): OwnerConfig['keys'] {
  return config.owners.find(({ id }) => id === owner)?.keys ?? []
}

function removedOf(config: Config, owner: string): OwnerConfig['removed'] {
  return config.owners.find(({ id }) => id === owner)?.removed ?? []
}

/** The ids of all keys of the owner, removed keys included. */
function idsOf(config: Config, owner: string): string[] {
  return [...keysOf(config, owner), ...removedOf(config, owner)].map(({ id }) => id)
}

/** One above the highest number: histories may still name the number of a key that is gone from the files. */
function nextId(taken: readonly string[]): string {
  const numbers = taken.map((id) => Number(/^k([1-9]\d{0,8})$/.exec(id)?.[1] ?? 0))
  return `k${Math.max(0, ...numbers) + 1}`
}

/** A change of each file, decided on the content of all files, and the result of the decision. */
type Decision<T> = { readonly change: (document: Document) => void; readonly result: T }

type Edited<T> = {
  /** Each file once. */
  readonly configs: readonly Config[]
  readonly result: T
  /** Why some of the files are changed, and others are not. */
  readonly failure?: OperatorError
}

/**
 * Edits all files, or none if a result is not valid; the files are locked and read again before `decide`.
 * Throws UsageError with the faults, ConfigError, InUse, errors of `decide`; FileError where no file is
 * changed.
 */
async function edit<T>(
  files: readonly string[],
  decide: (before: readonly Config[]) => Decision<T>,
): Promise<Edited<T>> {
  const byTarget = new Map(files.map(readConfig).map((config) => [realpathSync(config.file), config]))
  const configs = [...byTarget.values()]
  return whileLocked(
    configs.map(({ file }) => file),
    () => {
      const { change, result } = decide(configs.map(({ file }) => readConfig(file)))
      const edited = configs
        .map(({ file }) => editedText(file, change))
        .filter(({ before, text }) => text !== before)
      for (const { file } of edited) checkReplaceable(file)
      try {
        for (const { file, text } of edited) replaceFile(file, text)
      } catch (error) {
        const changed = edited.filter(({ file, text }) => readFileSync(file, 'utf8') === text)
        if (changed.length === 0 || !(error instanceof OperatorError)) throw error
        return { configs, result, failure: halfEdited(error, changed) }
      }
      return { configs, result }
    },
  )
}

function halfEdited(error: OperatorError, changed: readonly { readonly file: string }[]): OperatorError {
  const files = changed.map(({ file }) => file).join(', ')
  return new OperatorError(`${error.message}; changed, and not told to the nodes yet: ${files}`, {
    cause: error,
    hint: 'mend that, then run `coffer keys remove` for this key with all files: safe to repeat',
  })
}

/** Throws UsageError with the faults of the result. */
function editedText(
  file: string,
  change: (document: Document) => void,
): { readonly file: string; readonly before: string; readonly text: string } {
  const before = readFileSync(file, 'utf8')
  const document = parseDocument(before, { schema: 'core' })
  change(document)
  const text = document.toString({ lineWidth: 0 })
  try {
    parseConfig(text, file)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const faults = error.faults.map(({ path, message }) => `  ${path}: ${message}`)
    throw new UsageError(['nothing was written:', ...faults].join('\n'))
  }
  return { file, before, text }
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
