// The configuration file of one node: read and checked as a whole, with every fault reported at once.
import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { withReserve } from '../descriptors.ts'
import { errorCode, OperatorError } from '../errors.ts'
import { DRIVERS, type LedgerSetting, type LedgerSettings, type MemberSettings } from '../ledger/drivers.ts'
import { LEDGER_KINDS, type LedgerKind } from '../wire.ts'
import { isLoopback, splitListen } from './address.ts'
import { type ConfigFault, ConfigValue, UniqueTexts } from './config-value.ts'
import { type OwnerConfig, readId, readOwners } from './owners.ts'
import { readYaml } from './yaml.ts'

/** Limits of one request, and of all requests together. Sizes are in bytes. */
export type Limits = {
  /** A request's body, decompressed. */
  readonly body_bytes: number
  /** Values or tokens in a request. */
  readonly values: number
  /** UTF-8 of one value. */
  readonly value_bytes: number
  readonly answer_bytes: number
  /** Bodies and answers in work together; of one owner, half. */
  readonly bodies_in_work_bytes: number
  /** The event log is rotated at this size. */
  readonly event_file_bytes: number
  /** Rotated files. */
  readonly event_files_kept: number
  /** All files of the event log together. */
  readonly event_bytes_kept: number
  /** Days after the last event of a rotated file. */
  readonly event_days_kept: number
  /** How long a connection may rest between two requests. */
  readonly keep_alive_seconds: number
  /** How long a node that stops still takes requests, while `/ready` is 503. */
  readonly drain_seconds: number
}

const KIB = 1024
const MIB = 1024 * KIB

export const DEFAULT_LIMITS: Limits = {
  body_bytes: 16 * MIB,
  values: 100_000,
  value_bytes: 32 * KIB,
  answer_bytes: 64 * MIB,
  bodies_in_work_bytes: 256 * MIB,
  event_file_bytes: 64 * MIB,
  event_files_kept: 10_000,
  event_bytes_kept: 8192 * MIB,
  event_days_kept: 7,
  keep_alive_seconds: 72,
  drain_seconds: 0,
}

const MAX_LIMITS: Limits = {
  body_bytes: 256 * MIB,
  values: 1_000_000,
  // A segment of the ledger holds at least one value and is at most 128 KiB.
  value_bytes: 32 * KIB,
  // An answer is in memory as a whole: of tokens one buffer, of secrets one string, and V8's strings end at
  // 512 Mi characters.
  answer_bytes: 256 * MIB,
  bodies_in_work_bytes: 4096 * MIB,
  event_file_bytes: 1024 * MIB,
  event_files_kept: 10_000,
  event_bytes_kept: 1024 * 1024 * MIB,
  event_days_kept: 3650,
  keep_alive_seconds: 3600,
  drain_seconds: 300,
}

/** All paths are absolute; in the file they are relative to it. */
export type Config = {
  readonly file: string
  readonly node: string
  /** `host` without the brackets of IPv6. */
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls?: { readonly cert: string; readonly key: string }
  readonly insecure: boolean
  readonly data: string
  readonly keyring: string
  readonly owners: readonly OwnerConfig[]
  readonly fields: readonly string[]
  readonly limits: Limits
  readonly ledger: LedgerSettings
}

/** The file cannot be used. The message has the file's name, then a line for every fault. */
export class ConfigError extends OperatorError {
  override readonly name = 'ConfigError'
  readonly faults: readonly ConfigFault[]

  constructor(file: string, faults: readonly ConfigFault[]) {
    const lines = faults.map(
      (fault) => `  ${fault.path === '' ? '(whole file)' : fault.path}: ${fault.message}`,
    )
    super([`${file}: ${faults.length} fault${faults.length === 1 ? '' : 's'}`, ...lines].join('\n'))
    this.faults = faults
  }
}

/** By the code of the error. */
const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file; `coffer init` makes one',
  EISDIR: 'cannot be read (EISDIR); name the file, as DIR/n1.yaml',
  EACCES: 'cannot be read (EACCES); run the command as the owner of the file, or as root',
}

/** Throws ConfigError, also when the file is missing or unreadable, or others can write the file. */
export function readConfig(file: string): Config {
  const path = resolve(file)
  const refuse = (message: string): ConfigError => new ConfigError(path, [{ path: '', message }])
  let bytes: Uint8Array
  let mode: number
  try {
    bytes = withReserve(() => readFileSync(path))
    mode = statSync(path).mode & 0o777
  } catch (error) {
    const code = errorCode(error) ?? ''
    throw refuse(Object.hasOwn(UNREADABLE, code) ? UNREADABLE[code] : `cannot be read (${code})`)
  }
  // Who writes the owners has all rights of all owners.
  if ((mode & 0o022) !== 0)
    throw refuse(`can be written by others (mode ${mode.toString(8)}): chmod go-w ${path}`)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw refuse('is not UTF-8; is it the right file?')
  }
  return parseConfig(text, path)
}

/**
 * `file` is the path of the text: relative paths in the text start at its folder. Throws ConfigError with all
 * faults.
 */
export function parseConfig(text: string, file: string): Config {
  const path = resolve(file)
  const faults: ConfigFault[] = []
  const config = readRoot(new ConfigValue(readYaml(text, faults), '', faults), path)
  if (faults.length > 0) throw new ConfigError(path, faults)
  return config
}

function readRoot(root: ConfigValue, file: string): Config {
  const folder = dirname(file)
  const at = root.members(
    ...([
      'node',
      'listen',
      'tls',
      'insecure',
      'data',
      'keyring',
      'owners',
      'tokenize',
      'limits',
      'ledger',
    ] as const),
  )
  const insecure = at.insecure.given && at.insecure.flag()
  const listen = readListen(at.listen, at.tls.given || insecure)
  const fields = at.tokenize.given ? at.tokenize.members('fields').fields : undefined
  const node = readId(at.node)
  return {
    file,
    node,
    listen,
    ...(at.tls.given ? { tls: readPaths(at.tls, folder, 'cert', 'key') } : {}),
    insecure,
    data: readPath(at.data, folder),
    keyring: readPath(at.keyring, folder),
    owners: readOwners(at.owners),
    fields: fields?.given ? readFields(fields) : [],
    limits: at.limits.given ? readLimits(at.limits) : DEFAULT_LIMITS,
    ledger: readLedger(at.ledger, { folder, node, insecure }),
  }
}

function readPath(value: ConfigValue, folder: string): string {
  return resolve(
    folder,
    value.text('a path', (text) => text !== '' && !text.includes('\0')),
  )
}

function readPaths<Name extends string>(
  value: ConfigValue,
  folder: string,
  ...names: Name[]
): Record<Name, string> {
  const at = value.members(...names)
  const paths = names.map((name) => [name, readPath(at[name], folder)] as const)
  // Object.fromEntries forgets the names' type; they are exactly `names`.
  return Object.fromEntries(paths) as Record<Name, string>
}

function readListen(value: ConfigValue, open: boolean): { host: string; port: number } {
  const expected = 'host:port, as 127.0.0.1:8200 or "[::1]:8200", with a port from 0 to 65535'
  const listen = splitListen(value.text(expected, (text) => splitListen(text) !== undefined))
  if (listen === undefined) return { host: '', port: 0 }
  if (!open && !isLoopback(listen.host)) {
    value.fault(
      'beyond loopback keys and values need tls: add `tls: {cert, key}`, or `insecure: true` to do without',
    )
  }
  return listen
}

function readFields(value: ConfigValue): string[] {
  const expected = 'a field path, as patient.ssn or contacts[].phone ([] is every element of a list)'
  const values = value.list('a list of field paths')
  const paths = values.map((item) => item.text(expected, isFieldPath))
  const unique = new UniqueTexts()
  const known = new Map(paths.map((path, i) => [path, values[i]]))
  for (const [i, path] of paths.entries()) {
    unique.check(path, values[i], 'name each field once')
    // Names have neither dots nor brackets, so every enclosing field ends in front of a dot or a bracket.
    for (const { index } of path.matchAll(/[.[]/g)) {
      const outer = known.get(path.slice(0, index))
      if (outer !== undefined) values[i].fault(`lies within ${outer.path}; keep one of them`)
    }
  }
  return paths
}

/** A record is an object, so a path begins with a name: `a`, `a.b`, `a[].b`, `a[][]`. */
function isFieldPath(path: string): boolean {
  const whole = /^[^.[\]\p{Cc}]+(\[\])*(\.[^.[\]\p{Cc}]+(\[\])*)*$/u
  const spaces = /(^|\.)\s|\s(\.|\[|$)/
  return path.length <= 512 && path.isWellFormed() && whole.test(path) && !spaces.test(path)
}

function readLimits(value: ConfigValue): Limits {
  // Object.keys forgets the type; DEFAULT_LIMITS has exactly the members of Limits.
  const names = Object.keys(DEFAULT_LIMITS) as (keyof Limits)[]
  const at = value.members(...names)
  const limits: { -readonly [Name in keyof Limits]: number } = { ...DEFAULT_LIMITS }
  for (const name of names) {
    if (at[name].given) limits[name] = at[name].whole(Math.min(1, DEFAULT_LIMITS[name]), MAX_LIMITS[name])
  }
  const { body_bytes, answer_bytes, bodies_in_work_bytes } = limits
  const least = (body_bytes + answer_bytes) * 2
  const faulty = [body_bytes, answer_bytes, bodies_in_work_bytes].includes(0)
  if (!faulty && bodies_in_work_bytes < least) {
    at.bodies_in_work_bytes.fault(
      `half of ${bodies_in_work_bytes} is one owner's, and less than body_bytes and answer_bytes together: ` +
        `set at least ${least}, or lower the other two`,
    )
  }
  return limits
}

type LedgerContext = { readonly folder: string; readonly node: string; readonly insecure: boolean }

const LEDGER_SETTINGS: readonly LedgerSetting[] = ['endpoints', 'tls', 'member']

function readLedger(value: ConfigValue, { folder, node, insecure }: LedgerContext): LedgerSettings {
  const at = value.members('kind', ...LEDGER_SETTINGS)
  const named = (kinds: readonly string[]): string => kinds.map((kind) => `\`${kind}\``).join(' or ')
  const text = at.kind.text(named(LEDGER_KINDS), isLedgerKind)
  if (!isLedgerKind(text)) return { kind: LEDGER_KINDS[0], endpoints: [] } // the fault is noted already
  const { takes } = DRIVERS[text]
  for (const setting of LEDGER_SETTINGS) {
    if (takes.includes(setting) || !at[setting].given) continue
    const kinds = LEDGER_KINDS.filter((kind) => DRIVERS[kind].takes.includes(setting))
    at[setting].fault(`only for ${named(kinds.map((kind) => `kind: ${kind}`))}; remove it`)
  }
  const given = (setting: LedgerSetting): boolean => takes.includes(setting) && at[setting].given
  const secured: Secured = { tls: given('tls'), insecure }
  const endpoints = takes.includes('endpoints') ? readEndpoints(at.endpoints) : []
  checkSecured(at.endpoints, endpoints, secured)
  return {
    kind: text,
    endpoints,
    ...(given('tls') ? { tls: readPaths(at.tls, folder, 'ca', 'cert', 'key') } : {}),
    ...(given('member') ? { member: readMember(at.member, { folder, node, endpoints, secured }) } : {}),
  }
}

function isLedgerKind(text: string): text is LedgerKind {
  return LEDGER_KINDS.some((kind) => kind === text)
}

type Secured = { readonly tls: boolean; readonly insecure: boolean }

/**
 * Entries in etcd are sealed, but anybody who reaches etcd, or speaks Raft with a member, can delete entries:
 * certificates keep others out.
 */
function checkSecured(value: ConfigValue, origins: readonly string[], { tls, insecure }: Secured): void {
  const urls = origins.filter((origin) => origin !== '').map((origin) => new URL(origin))
  if (!tls && urls.some(({ protocol }) => protocol === 'https:'))
    value.fault('https needs `tls: {ca, cert, key}` beside it')
  const open = urls.some(
    ({ protocol, hostname }) => protocol === 'http:' && !isLoopback(hostname.replace(/^\[|\]$/g, '')),
  )
  if (open && !insecure)
    value.fault('beyond loopback an etcd needs https and `tls`, or `insecure: true` to do without')
}

type MemberContext = {
  readonly folder: string
  readonly node: string
  readonly endpoints: readonly string[]
  readonly secured: Secured
}

function readMember(value: ConfigValue, { folder, node, endpoints, secured }: MemberContext): MemberSettings {
  const at = value.members('client', 'peer', 'cluster', 'token', 'etcd')
  const client = readOrigin(at.client)
  if (client !== '' && !endpoints.includes(client))
    at.client.fault('not one of ledger.endpoints; name it there too')
  const peer = readOrigin(at.peer)
  const named = Object.keys(at.cluster.mapping())
  const members = at.cluster.members(...named)
  const cluster = Object.fromEntries(named.map((name) => [name, readOrigin(members[name])]))
  if (node !== '' && peer !== '' && cluster[node] !== peer)
    at.cluster.fault('does not name this node with its `peer`; name every member, this one too')
  // `client` is one of the endpoints.
  checkSecured(at.peer, [peer], secured)
  for (const name of named.filter((name) => cluster[name] !== peer)) {
    checkSecured(members[name], [cluster[name]], secured)
  }
  const token = at.token.text('text of 8 to 128 letters, digits, . _ or -', (text) =>
    /^[A-Za-z0-9._-]{8,128}$/.test(text),
  )
  return { client, peer, cluster, token, ...(at.etcd.given ? { etcd: readPath(at.etcd, folder) } : {}) }
}

const ORIGIN = 'an address as https://127.0.0.1:8201, without path, user or password'

/** '' after a fault. */
function readOrigin(value: ConfigValue): string {
  return originOf(value.text(ORIGIN, (text) => originOf(text) !== undefined)) ?? ''
}

function readEndpoints(value: ConfigValue): string[] {
  const unique = new UniqueTexts()
  return value.list('a list of at least one etcd address', 1).map((item) => {
    const origin = readOrigin(item)
    unique.check(origin, item, 'name each member once')
    return origin
  })
}

function originOf(text: string): string | undefined {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return undefined
  // Anything beyond the origin would be dropped in silence.
  return url.href === `${url.origin}/` && !/[?#]/.test(text) ? url.origin : undefined
}
