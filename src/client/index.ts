// The client of a vault: tokens and secrets, over one node or several.
//
//   const coffer = new Coffer({ urls: 'http://127.0.0.1:8200', key: process.env.COFFER_KEY ?? '' })
//   const { tokens } = await coffer.tokenize(['123-45-6789'])
//   const { values } = await coffer.detokenize(tokens)
//   coffer.close()
//
// Every method throws CofferError, and TypeError for arguments that are not JSON. A call goes on to the next
// node after a failure or a 503, until its deadline. JSON is JavaScript's: before anything is sent, a number
// beyond 2^53 in a record loses digits, and NaN in a record becomes null.
import { randomUUID } from 'node:crypto'
import type { Right } from '../wire.ts'
import { CofferError, NOT_A_NODE } from './error.ts'
import { type Call, Nodes } from './nodes.ts'
import { Transport } from './transport.ts'

export { CofferError, type ErrorSlug } from './error.ts'

export type Scalar = string | number | boolean | null
export type Json = Scalar | readonly Json[] | { readonly [name: string]: Json }
export type JsonRecord = { readonly [name: string]: Json }

export type CofferOptions = {
  /** `http://host:port` of each node; in a string, separated by commas. */
  readonly urls: string | readonly string[]
  /** The API key; the key decides the owner. */
  readonly key: string
  /** PEM of the authority of the nodes' certificates; absent: the system's authorities. */
  readonly ca?: Buffer | string
  /** Milliseconds for a call with all its tries; 10,000 by default. */
  readonly timeoutMs?: number
}

/** `allowTokens`: strings that are tokens already are tokenized as other strings, instead of refused. */
export type TokenizeOptions = { readonly allowTokens?: boolean }

/**
 * `require`: configured fields; a record without a value other than null in each of them, or in an element of
 * a list on the way, is refused.
 */
type TokenizeRecordsOptions = TokenizeOptions & { readonly require?: readonly string[] }

/** `tokens[i]` belongs to value i; null belongs to null. */
export type Tokenized = { readonly epoch: number; readonly tokens: readonly (string | null)[] }
export type TokenizedRecords = {
  readonly epoch: number
  readonly records: readonly JsonRecord[]
  /** How many values were replaced. */
  readonly replaced: number
}
/** `values[i]` belongs to token i; null, with `i` in `notFound`, where the token was not found. */
export type Detokenized = { readonly values: readonly Scalar[]; readonly notFound: readonly number[] }
export type DetokenizedRecords = {
  readonly records: readonly JsonRecord[]
  /** Strings in the form of a token that were not found; the records still hold the strings. */
  readonly notFound: readonly { readonly record: number; readonly path: string }[]
}
export type Retokenized = {
  readonly epoch: number
  readonly tokens: readonly (string | null)[]
  readonly notFound: readonly number[]
}
export type Epoch = {
  readonly epoch: number
  readonly opened_at: string
  /** null: the epoch is active. */
  readonly closed_at: string | null
  readonly tokens: number
}
export type Epochs = { readonly active: number; readonly epochs: readonly Epoch[] }
/** `rotated` is false where the epoch was open already, also by an earlier try of the same call. */
export type Rotated = { readonly epoch: number; readonly rotated: boolean }
/** A written version of a secret. `valid_from` is RFC 3339. */
export type WrittenSecret = { readonly name: string; readonly version: number; readonly valid_from: string }
/** Valid from `valid_from` until before `valid_to`; null: no later version was known. */
export type Secret = WrittenSecret & { readonly value: string; readonly valid_to: string | null }
export type SecretHistory = {
  readonly name: string
  /** Oldest first. */
  readonly versions: readonly {
    readonly version: number
    readonly valid_from: string
    readonly valid_to: string | null
    /** The API key and the request that wrote the version. */
    readonly key_id: string
    readonly request_id: string
  }[]
}
/**
 * A repeated call under the same key gets the first success again. By default every call has a random key.
 */
export type WriteOptions = { readonly idempotencyKey?: string }
export type Ready = { readonly ready: boolean; readonly reasons: readonly string[] }
export type NodeStatus = {
  readonly node: string
  readonly version: string
  readonly ledger: { readonly kind: string; readonly identity: string; readonly revision: number }
  readonly replica: { readonly revision: number; readonly lag: number; readonly digest: string }
  readonly quorum: boolean
  readonly leader: string | null
  readonly members: readonly { readonly node: string; readonly ready: boolean }[]
  readonly fields: string
  /** A hash of the owners in force. */
  readonly owners: string
  readonly root_keys: readonly string[]
}

/** The owner of the API key, and what the key may do; null: no limit. */
export type Whoami = {
  readonly owner: string
  readonly key_id: string
  readonly may: readonly Right[]
  readonly prefix: string | null
  /** RFC 3339. */
  readonly until: string | null
  readonly resolve_per_day: number | null
  /** Bytes that the entries of the owner may take. */
  readonly quota: number | null
  /** Bytes that count against the quota; null while the node reads its replica. */
  readonly used: number | null
}

const TIMEOUT_MS = 10_000

export class Coffer {
  readonly #transport: Transport
  readonly #nodes: Nodes
  #closed = false

  /** Throws TypeError for malformed options. */
  constructor({ urls, key, ca, timeoutMs = TIMEOUT_MS }: CofferOptions) {
    if (!/^[\x21-\x7e]{1,256}$/.test(key))
      throw new TypeError('the API key must be 1 to 256 printable ASCII characters, no spaces')
    if (!(timeoutMs > 0)) throw new TypeError('timeoutMs must be positive')
    const list = typeof urls === 'string' ? urls.split(',') : urls
    const origins = list.map((url, i) => originOf(url.trim(), i + 1))
    if (origins.length === 0) throw new TypeError('there must be at least one URL')
    this.#transport = new Transport({
      headers: { authorization: `Bearer ${key}` },
      ...(ca === undefined ? {} : { tls: { ca } }),
    })
    this.#nodes = new Nodes(origins, this.#transport, timeoutMs)
  }

  /**
   * Tokens of values: under an epoch, equal values have equal tokens. Throws `already-a-token` and others.
   */
  async tokenize(values: readonly Scalar[], options: TokenizeOptions = {}): Promise<Tokenized> {
    checkScalars(values)
    return this.#post('/tokenize', { values, ...allow(options) })
  }

  /**
   * The same records, with tokens in the fields of the node's configuration. Throws `field-missing`, with
   * `members.path`, where a record lacks a required field; then nothing is stored.
   */
  async tokenizeRecords(
    records: readonly object[],
    { require, ...options }: TokenizeRecordsOptions = {},
  ): Promise<TokenizedRecords> {
    const required = require === undefined ? {} : { require }
    return this.#post('/tokenize', { records, ...required, ...allow(options) })
  }

  async detokenize(tokens: readonly (string | null)[]): Promise<Detokenized> {
    const answer = await this.#post<{ values: Scalar[]; not_found: number[] }>('/detokenize', { tokens })
    return { values: answer.values, notFound: answer.not_found }
  }

  /** The value of one token; undefined where it is not found. */
  async detokenizeOne(token: string): Promise<Exclude<Scalar, null> | undefined> {
    try {
      const { value } = await this.#post<{ value: Exclude<Scalar, null> }>('/detokenize', { token })
      return value
    } catch (error) {
      if (error instanceof CofferError && error.slug === 'not-found') return undefined
      throw error
    }
  }

  async detokenizeRecords(records: readonly object[]): Promise<DetokenizedRecords> {
    type Answer = { records: JsonRecord[]; not_found: DetokenizedRecords['notFound'] }
    const answer = await this.#post<Answer>('/detokenize', { records })
    return { records: answer.records, notFound: answer.not_found }
  }

  /** Tokens of the same values under the active epoch. No value leaves the node. */
  async retokenize(tokens: readonly (string | null)[]): Promise<Retokenized> {
    type Answer = { epoch: number; tokens: (string | null)[]; not_found: number[] }
    const { not_found: notFound, ...answer } = await this.#post<Answer>('/retokenize', { tokens })
    return { ...answer, notFound }
  }

  /**
   * Opens epoch `to`, the number after the active epoch. Throws `epoch-conflict`, with the active epoch in
   * `members.epoch`.
   */
  async rotateEpoch(to: number): Promise<Rotated> {
    return this.#post('/rotate-epoch', { to })
  }

  async epochs(): Promise<Epochs> {
    return this.#json({ method: 'GET', path: '/epochs' })
  }

  /** Throws `secret-exists`. */
  async createSecret(name: string, value: string, options: WriteOptions = {}): Promise<WrittenSecret> {
    return this.#write({ method: 'POST', path: '/secrets', body: { name, value }, options })
  }

  /** All or none, in the given order. Throws `secret-exists` with all existing names in `members.names`. */
  async createSecrets(
    secrets: readonly { readonly name: string; readonly value: string }[],
    options: WriteOptions = {},
  ): Promise<readonly WrittenSecret[]> {
    type Answer = { secrets: WrittenSecret[] }
    const body = { secrets: secrets.map(({ name, value }) => ({ name, value })) }
    return (await this.#write<Answer>({ method: 'POST', path: '/secrets', body, options })).secrets
  }

  /**
   * Writes the next version. `ifVersion`: writes only where `ifVersion` is the latest version. Throws
   * `not-found`; `version-conflict`, with the latest version in `members.version`.
   */
  async updateSecret(
    name: string,
    value: string,
    options: WriteOptions & { readonly ifVersion?: number } = {},
  ): Promise<WrittenSecret> {
    const { ifVersion } = options
    return this.#write({ method: 'PUT', path: secretPath(name), body: { value }, options, ifVersion })
  }

  /**
   * The latest version, the version of a number, or the version valid at an instant (RFC 3339). Throws
   * `not-found`.
   */
  async secret(
    name: string,
    selector: { readonly version?: number; readonly at?: string } = {},
  ): Promise<Secret> {
    return this.#json({ method: 'GET', path: `${secretPath(name)}${query(selector)}` })
  }

  async secretHistory(name: string): Promise<SecretHistory> {
    return this.#json({ method: 'GET', path: `${secretPath(name)}/history` })
  }

  /**
   * Names in byte order, 100 by default; `next` is the `after` of the next page, null after the last page.
   */
  async secretNames(
    page: { readonly prefix?: string; readonly limit?: number; readonly after?: string } = {},
  ): Promise<{ readonly names: readonly string[]; readonly next: string | null }> {
    return this.#json({ method: 'GET', path: `/secrets${query(page)}` })
  }

  /**
   * The values of references, `coffer://<name>` or `coffer://<name>@<version>`; `at` selects the version
   * where a reference has none. Throws `refs-not-found` with all missing references in `members.missing`.
   */
  async resolveSecrets(
    refs: readonly string[],
    options: { readonly at?: string } = {},
  ): Promise<readonly string[]> {
    const { at } = options
    const body = { refs, ...(at === undefined ? {} : { at }) }
    return (await this.#post<{ values: string[] }>('/secrets/resolve', body)).values
  }

  /**
   * The status of the first node that answers. `status`, `whoami`, `ready` and `health` ask each node at most
   * once.
   */
  async status(): Promise<NodeStatus> {
    return this.#json({ method: 'GET', path: '/status', once: true })
  }

  /** The rights and limits of the API key, and the quota of its owner, by the first node that answers. */
  async whoami(): Promise<Whoami> {
    return this.#json({ method: 'GET', path: '/whoami', once: true })
  }

  /** Whether a node can serve requests fully; if none can, the reasons of the last node asked. */
  async ready(): Promise<Ready> {
    try {
      await this.#json({ method: 'GET', path: '/ready', once: true })
      return { ready: true, reasons: [] }
    } catch (error) {
      if (!(error instanceof CofferError) || error.slug !== 'not-ready') throw error
      const { reasons } = error.members
      return { ready: false, reasons: Array.isArray(reasons) ? reasons.map(String) : [] }
    }
  }

  /** Resolves where a node's process runs. */
  async health(): Promise<{ readonly status: string }> {
    return this.#json({ method: 'GET', path: '/health', once: true })
  }

  /** Closes the idle connections; later calls throw `closed`. Wait for the calls under way first. */
  close(): void {
    this.#closed = true
    this.#transport.close()
  }

  #write<T>({ method, path, body, options, ifVersion }: SecretWrite): Promise<T> {
    const { idempotencyKey = randomUUID() } = options
    if (!/^[\x20-\x7e]{1,128}$/.test(idempotencyKey))
      throw new TypeError('idempotencyKey must be 1 to 128 printable ASCII characters')
    // In quotes, so that spaces and quotes at the ends of the key stay.
    const headers = {
      'idempotency-key': `"${idempotencyKey}"`,
      ...(ifVersion === undefined ? {} : { 'if-match': `"${ifVersion}"` }),
    }
    return this.#json({ method, path, headers, body: Buffer.from(JSON.stringify(body), 'utf8') })
  }

  /**
   * A call by POST as bytes, JSON in and JSON out: for many values, without an object for each. Only for
   * calls with the same effect when repeated: a failed try is followed by others.
   */
  async post(path: `/${string}`, body: Buffer): Promise<Buffer> {
    return this.#bytes({ method: 'POST', path, body })
  }

  #post<T>(path: string, body: object): Promise<T> {
    return this.#json({ method: 'POST', path, body: Buffer.from(JSON.stringify(body), 'utf8') })
  }

  async #bytes(call: Call): Promise<Buffer> {
    if (this.#closed) throw new CofferError('closed', 'the client is closed')
    return this.#nodes.call(call)
  }

  async #json<T>(call: Call): Promise<T> {
    const body = await this.#bytes(call)
    let json: unknown
    try {
      json = JSON.parse(body.toString('utf8'))
    } catch {
      // Told below.
    }
    // The caller names the type, by the contract.
    if (typeof json === 'object' && json !== null) return json as T
    const what = `the answer to ${call.method} ${call.path} is no JSON object`
    throw new CofferError('unexpected-answer', `${what}: ${NOT_A_NODE}`)
  }
}

type SecretWrite = {
  readonly method: 'POST' | 'PUT'
  readonly path: string
  readonly body: object
  readonly options: WriteOptions
  readonly ifVersion?: number | undefined
}

function allow(options: TokenizeOptions): { allow_tokens?: true } {
  return options.allowTokens ? { allow_tokens: true } : {}
}

function secretPath(name: string): string {
  const encoded = encodeURIComponent(name.toWellFormed())
  // `a/history` is not a valid name: with a slash as it is, the path would be that of the history of `a`.
  return `/secrets/${name.endsWith('/history') ? encoded : encoded.replaceAll('%2F', '/')}`
}

function query(parameters: Readonly<Record<string, string | number | undefined>>): string {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters))
    if (value !== undefined) given.set(name, String(value))
  return given.size === 0 ? '' : `?${given}`
}

/** Refuses values that JSON turns into null in silence: null has no token. Throws TypeError. */
function checkScalars(values: readonly Scalar[]): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    if (value === undefined || (typeof value === 'number' && !Number.isFinite(value)))
      throw new TypeError(`values[${i}] is undefined or not a finite number`)
  }
}

/** Throws TypeError with the position of a malformed URL: the URL itself may hold a password. */
function originOf(text: string, position: number): URL {
  const url = URL.parse(text)
  const plain = url !== null && url.href === `${url.origin}/` && !/[?#]/.test(text)
  if (url === null || !plain || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new TypeError(`URL ${position} is not of the form http://host:port: no path, user or password`)
  return url
}
