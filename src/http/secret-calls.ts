// The calls of secrets: bodies in, names and values to the service, JSON out.
import type { AskedRequest } from '../crypto/receipt.ts'
import { Problem } from '../errors.ts'
import { memberPath, Paths } from '../json/paths.ts'
import { UNLIMITED } from '../json/scan.ts'
import { ScanThread } from '../json/scan-thread.ts'
import type { Begun, Claim, WriteResult } from '../secrets/receipts.ts'
import type { Caller, NewSecret, SecretRequest, VersionSelector } from '../secrets/secrets.ts'
import {
  isSecretName,
  parseInstant,
  parseReference,
  REFS_A_REQUEST,
  type Reference,
  SECRET_NAME_RULE,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
  SECRETS_BYTES_A_REQUEST,
} from '../wire.ts'
import { checkPrefix } from './auth.ts'
import { ifMatch } from './conditional.ts'
import { badRequest } from './problems.ts'
import { readQuery } from './query.ts'
import type { Services } from './services.ts'

/** A request to create or update. */
export type SecretWrite = {
  readonly caller: Caller
  /** Of the API key: only names that begin so. */
  readonly prefix: string | undefined
  readonly idempotencyKey: string | undefined
  readonly asked: AskedRequest
  /** With the query, to be checked after the receipt. */
  readonly url: string
  /** The fault of the media type or of the bytes of the body: thrown after the faults of query and name. */
  readonly fault: Problem | undefined
}

/** The owner that reads, and the prefix of the API key. */
type Reader = SecretRequest & Pick<SecretWrite, 'prefix'>

/** The answer to a write. */
export type WriteAnswer = {
  readonly body: string
  readonly etag: string | undefined
  readonly written: WriteResult
  /** The secrets of the request. */
  readonly names: readonly string[]
}

type ResolveAnswer = {
  readonly body: string
  /** The secret of each reference. */
  readonly names: readonly string[]
  /** Of a single reference with a version. */
  readonly version?: number
}

const NO_PATHS = new Paths([])

type NewSecrets = { readonly secrets: readonly NewSecret[]; readonly many: boolean }
type Json = Readonly<Record<string, unknown>>

export class SecretCalls {
  readonly #services: () => Services
  readonly #answerBytes: number
  readonly #scanner = new ScanThread()

  constructor(services: () => Services, limits: { readonly answer_bytes: number }) {
    this.#services = services
    this.#answerBytes = limits.answer_bytes
  }

  /** Throws Problem; LedgerUnavailable, UnknownOutcome. */
  async create(write: SecretWrite): Promise<WriteAnswer> {
    const begun = this.#begin(write)
    if (begun.kind === 'answered') return created(await this.#newSecrets(write), begun.written)
    const { claim } = begun
    try {
      readQuery(write.url)
      if (write.fault) throw write.fault
      const parsed = await this.#newSecrets(write)
      checkPrefix(
        write.prefix,
        parsed.secrets.map((secret) => secret.name),
      )
      return created(parsed, await this.#services().secrets.create(write.caller, parsed.secrets, claim))
    } catch (error) {
      const written = await this.#successInstead(write, claim, error)
      return created(await this.#newSecrets(write), written)
    } finally {
      this.#settle(claim)
    }
  }

  /** Throws Problem; LedgerUnavailable, UnknownOutcome. */
  async update(write: SecretWrite): Promise<WriteAnswer> {
    const { name, ifMatch: precondition } = write.asked
    const begun = this.#begin(write)
    if (begun.kind === 'answered') return updated(name, begun.written)
    const { claim } = begun
    try {
      readQuery(write.url)
      checkName(name, 'name')
      if (write.fault) throw write.fault
      const json = await this.#json(write.asked.body)
      checkMembers(json, '', ['value'])
      const value = secretValue(json.value, 'value')
      checkPrefix(write.prefix, [name])
      // If-Match is read where there is a version to compare: an absent secret is 404 whatever If-Match says.
      const matches = (version: number): boolean => ifMatch(precondition)(version)
      return updated(
        name,
        await this.#services().secrets.update(write.caller, { name, value }, matches, claim),
      )
    } catch (error) {
      return updated(name, await this.#successInstead(write, claim, error))
    } finally {
      this.#settle(claim)
    }
  }

  #begin({ caller, idempotencyKey, asked }: SecretWrite): Begun | { kind: 'claimed'; claim: undefined } {
    if (idempotencyKey === undefined) return { kind: 'claimed', claim: undefined }
    return this.#services().receipts.begin({ ...caller, idempotencyKey }, asked)
  }

  #successInstead({ caller }: SecretWrite, claim: Claim | undefined, error: unknown): Promise<WriteResult> {
    if (claim === undefined) throw error
    return this.#services().receipts.successInstead(claim, error, caller.deadline)
  }

  #settle(claim: Claim | undefined): void {
    if (claim !== undefined) this.#services().receipts.settle(claim)
  }

  async #newSecrets({ asked }: SecretWrite): Promise<NewSecrets> {
    return newSecrets(await this.#json(asked.body))
  }

  async read(
    request: Reader,
    name: string,
    query: Json,
  ): Promise<{ body: string; etag: string; version: number }> {
    const which = whichOf(query)
    checkName(name, 'name')
    checkPrefix(request.prefix, [name])
    const { value, ...interval } = await this.#services().secrets.read(request, name, which)
    const { version } = interval
    const times = { valid_from: text(interval.validFrom), valid_to: text(interval.validTo) }
    return {
      body: JSON.stringify({ name, value: value.toString('utf8'), version, ...times }),
      etag: etag(version),
      version,
    }
  }

  async history(request: Reader, name: string): Promise<{ body: string; count: number }> {
    checkName(name, 'name')
    checkPrefix(request.prefix, [name])
    const lines = await this.#services().secrets.history(request, name)
    const versions = lines.map(({ version, validFrom, validTo, keyId, requestId }) => ({
      version,
      valid_from: text(validFrom),
      valid_to: text(validTo),
      key_id: keyId,
      request_id: requestId,
    }))
    return { body: this.#bounded(JSON.stringify({ name, versions })), count: versions.length }
  }

  async list(
    request: Reader,
    { prefix = '', after = '', limit = '100' }: Record<string, string>,
  ): Promise<{ body: string; count: number }> {
    const most = Number(limit)
    const own = request.prefix ?? ''
    const longer = own.length > prefix.length ? own : prefix
    /** Whether a name can begin with both prefixes. A list waits for the ledger, with and without names. */
    const both = longer.startsWith(own) && longer.startsWith(prefix)
    const page = { prefix: longer, after, limit: both ? most + 1 : 0 }
    const names = await this.#services().secrets.names(request, page)
    const next = names.length > most ? names[most - 1] : null
    const given = names.slice(0, most)
    return { body: JSON.stringify({ names: given, next }), count: given.length }
  }

  /** Throws Problem refs-not-found with all missing references. */
  async resolve(request: Reader, body: Uint8Array): Promise<ResolveAnswer> {
    const json = await this.#json(body)
    checkMembers(json, '', ['refs'], ['at'])
    const texts = listOf(json.refs, 'refs', REFS_A_REQUEST, 'references')
    const refs = texts.map((ref, i): Reference => {
      const parsed = typeof ref === 'string' ? parseReference(ref) : undefined
      if (!parsed)
        throw badRequest(
          `refs[${i}]`,
          'coffer://<name> or coffer://<name>@<version>',
          'the text is not a reference',
        )
      return parsed
    })
    const at = json.at === undefined ? undefined : instantOf(json.at)
    checkPrefix(
      request.prefix,
      refs.map(({ name }) => name),
    )
    const { secrets } = this.#services()
    const { values, missing } = await secrets.resolve(request, refs, at, this.#answerBytes)
    if (missing.length > 0) {
      const names = [...new Set(missing.map((i) => texts[i]))]
      throw new Problem('refs-not-found', `${names.length} of the references are not found`, {
        missing: names,
      })
    }
    const answer = JSON.stringify({ values: values.map((value) => value.toString('utf8')) })
    return { body: this.#bounded(answer), names: refs.map(({ name }) => name), ...versionOfOne(refs) }
  }

  /** The scan refuses repeated members and deep nesting, for JSON.parse accepts both. */
  async #json(body: Uint8Array): Promise<Json> {
    await this.#scanner.scan({ owner: '', body, paths: NO_PATHS }, UNLIMITED)
    const json: unknown = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8'))
    return objectOf(json, '')
  }

  #bounded(answer: string): string {
    if (Buffer.byteLength(answer) <= this.#answerBytes) return answer
    throw new Problem('answer-too-large', `the answer is larger than ${this.#answerBytes} bytes`)
  }

  close(): Promise<void> {
    return this.#scanner.close()
  }
}

function created({ secrets, many }: NewSecrets, written: WriteResult): WriteAnswer {
  const answers = secrets.map(({ name }) => versionOf(name, written))
  const body = JSON.stringify(many ? { secrets: answers } : answers[0])
  const names = secrets.map(({ name }) => name)
  return { body, etag: many ? undefined : etag(written.version), written, names }
}

function updated(name: string, written: WriteResult): WriteAnswer {
  return {
    body: JSON.stringify(versionOf(name, written)),
    etag: etag(written.version),
    written,
    names: [name],
  }
}

function versionOf(name: string, { version, validFrom }: WriteResult): Json {
  return { name, version, valid_from: text(validFrom) }
}

function versionOfOne([first, ...others]: readonly Reference[]): { version?: number } {
  return first?.version === undefined || others.length > 0 ? {} : { version: first.version }
}

function etag(version: number): string {
  return `"${version}"`
}

function text(instant: number): string
function text(instant: number | null): string | null
function text(instant: number | null): string | null {
  return instant === null ? null : new Date(instant).toISOString()
}

function newSecrets(json: Json): NewSecrets {
  if (json.secrets === undefined) return { secrets: [newSecret(json, '')], many: false }
  checkMembers(json, '', ['secrets'])
  const list = listOf(json.secrets, 'secrets', SECRETS_A_REQUEST, 'secrets')
  const secrets = list.map((each, i) => newSecret(objectOf(each, `secrets[${i}]`), `secrets[${i}]`))
  const bytes = secrets.reduce((sum, { name, value }) => sum + name.length + value.length, 0)
  if (bytes > SECRETS_BYTES_A_REQUEST) {
    const detail = `names and values together are larger than ${SECRETS_BYTES_A_REQUEST} bytes`
    throw new Problem('too-large', detail)
  }
  return { secrets, many: true }
}

function newSecret(json: Json, path: string): NewSecret {
  checkMembers(json, path, ['name', 'value'])
  const { name } = json
  const at = memberPath(path, 'name')
  if (typeof name !== 'string') throw badRequest(at, SECRET_NAME_RULE, 'a name is a string')
  checkName(name, at)
  return { name, value: secretValue(json.value, memberPath(path, 'value')) }
}

function checkName(name: string, path: string): void {
  if (!isSecretName(name)) throw badRequest(path, SECRET_NAME_RULE, 'the text is not a name of a secret')
}

function secretValue(value: unknown, path: string): Buffer {
  if (typeof value !== 'string') throw badRequest(path, 'a string', 'a value is a string')
  const wrong = (reason: string): Problem => new Problem('invalid-value', reason, { path, reason })
  if (!value.isWellFormed()) throw wrong('the string is not well-formed Unicode')
  const bytes = Buffer.from(value, 'utf8')
  if (bytes.length > SECRET_VALUE_BYTES) throw wrong(`the string is longer than ${SECRET_VALUE_BYTES} bytes`)
  return bytes
}

function objectOf(json: unknown, path: string): Json {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw badRequest(path, 'an object', 'the value is not an object')
  return json as Json // just checked
}

function listOf(json: unknown, path: string, most: number, what: string): readonly unknown[] {
  if (!Array.isArray(json)) throw badRequest(path, 'an array', `${path} is not an array`)
  if (json.length > most) throw new Problem('too-many-values', `more than ${most} ${what} in one request`)
  return json
}

/** Checks that all of `needed` are present, and nothing beside `needed` and `others`. */
function checkMembers(
  json: Json,
  path: string,
  needed: readonly string[],
  others: readonly string[] = [],
): void {
  const known = [...needed, ...others]
  const unknown = Object.keys(json).find((name) => !known.includes(name))
  if (unknown !== undefined)
    throw badRequest(memberPath(path, unknown), `one of ${known.join(', ')}`, 'unknown member')
  const missing = needed.find((name) => !Object.hasOwn(json, name))
  if (missing !== undefined)
    throw badRequest(memberPath(path, missing), 'the member', `${missing} is missing`)
}

function instantOf(value: unknown): number {
  const instant = typeof value === 'string' ? parseInstant(value) : undefined
  if (instant === undefined)
    throw badRequest('at', 'an instant, like 2026-01-31T12:00:00Z', '`at` is not an instant')
  return instant
}

function whichOf({ version, at }: Json): VersionSelector {
  if (version !== undefined && at !== undefined)
    throw badRequest('at', 'either version or at', 'version and at exclude each other')
  if (version !== undefined) return { version: Number(version) }
  // In a query an unescaped `+` reads as a space.
  return at === undefined ? {} : { at: instantOf(String(at).replace(/ (?=\d\d:\d\d$)/, '+')) }
}
