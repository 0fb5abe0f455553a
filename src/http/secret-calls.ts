// The calls of secrets: bodies in, names and values to the service, JSON out.
import type { AskedRequest } from '../crypto/receipt.ts'
import { Problem } from '../errors.ts'
import { ScanThread } from '../json/scan-thread.ts'
import type { VersionSelector } from '../secrets/intervals.ts'
import type { Begun, Claim, WriteResult } from '../secrets/receipts.ts'
import type { Caller, SecretRequest } from '../secrets/secrets.ts'
import { FairTurns } from '../waiting.ts'
import type { Reference } from '../wire.ts'
import { Answer, answerTooLarge } from './answer.ts'
import { checkPrefix } from './auth.ts'
import type { Share } from './bytes-in-work.ts'
import { ifMatch } from './conditional.ts'
import { FaultAt, Form } from './form.ts'
import { badRequest } from './problems.ts'
import { readQuery } from './query.ts'
import {
  CREATE,
  checkName,
  instantOf,
  type NewSecrets,
  newSecrets,
  newValue,
  RESOLVE,
  referencesOf,
  type SecretShape,
  UPDATE,
} from './secret-forms.ts'
import type { Services } from './services.ts'

/** A request to create or update. */
export type SecretWrite = {
  readonly caller: Caller
  readonly share: Share
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
type Reader = SecretRequest & Pick<SecretWrite, 'prefix' | 'share'>

/** The answer to a write. */
export type WriteAnswer = {
  readonly body: string
  readonly etag: string | undefined
  readonly written: WriteResult
  /** The secrets of the request. */
  readonly names: readonly string[]
}

type ResolveAnswer = {
  readonly body: Buffer
  /** The secret of each reference. */
  readonly names: readonly string[]
  /** Of a single reference with a version. */
  readonly version?: number
}

/** Bytes of an answer written in a turn of the event loop. */
const BYTES_A_TURN = 2 * 1024 * 1024
/** Versions of a history written in a turn. */
const LINES_A_TURN = 5000
/** More than the answer for a version takes, beside its name. */
const WRITTEN_BYTES = 96

type Json = Readonly<Record<string, unknown>>

export class SecretCalls {
  readonly #services: () => Services
  readonly #answerBytes: number
  readonly #scanner = new ScanThread()
  readonly #turns = new FairTurns()

  constructor(services: () => Services, limits: { readonly answer_bytes: number }) {
    this.#services = services
    this.#answerBytes = limits.answer_bytes
  }

  /** Throws Problem; LedgerUnavailable, UnknownOutcome. */
  async create(write: SecretWrite): Promise<WriteAnswer> {
    const begun = await this.#begin(write)
    if (begun.kind === 'answered') return created(await this.#newSecrets(write), begun.written)
    const { claim } = begun
    try {
      readQuery(write.url)
      if (write.fault) throw write.fault
      const parsed = await this.#newSecrets(write)
      const names = parsed.secrets.map((secret) => secret.name)
      checkPrefix(write.prefix, names)
      write.share.roomFor(names.reduce((sum, name) => sum + name.length + WRITTEN_BYTES, WRITTEN_BYTES))
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
    const begun = await this.#begin(write)
    if (begun.kind === 'answered') return updated(name, begun.written)
    const { claim } = begun
    try {
      readQuery(write.url)
      checkName(name, 'name')
      if (write.fault) throw write.fault
      const { owner } = write.caller
      const value = await this.#withForm({ owner, body: write.asked.body }, UPDATE, (form) =>
        newValue(form(['value'])),
      )
      checkPrefix(write.prefix, [name])
      write.share.roomFor(name.length + WRITTEN_BYTES)
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

  async #begin({
    caller,
    idempotencyKey,
    asked,
  }: SecretWrite): Promise<Begun | { kind: 'claimed'; claim: undefined }> {
    if (idempotencyKey === undefined) return { kind: 'claimed', claim: undefined }
    return this.#services().receipts.begin({ ...caller, idempotencyKey }, asked, caller.deadline)
  }

  #successInstead({ caller }: SecretWrite, claim: Claim | undefined, error: unknown): Promise<WriteResult> {
    if (claim === undefined) throw error
    return this.#services().receipts.successInstead(claim, error, caller.deadline)
  }

  #settle(claim: Claim | undefined): void {
    if (claim !== undefined) this.#services().receipts.settle(claim)
  }

  #newSecrets({ asked: { body }, caller }: SecretWrite): Promise<NewSecrets> {
    return this.#withForm({ owner: caller.owner, body }, CREATE, (form, members) =>
      newSecrets(form, members.includes('secrets')),
    )
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

  async history(request: Reader, name: string): Promise<{ body: Buffer; count: number }> {
    checkName(name, 'name')
    checkPrefix(request.prefix, [name])
    const lines = await this.#services().secrets.history(request, name, this.#room(request))
    const answer = new Answer({
      hint: lines.length * 160 + 512,
      limit: this.#answerBytes,
      share: request.share,
    })
    answer.text(`{"name":${JSON.stringify(name)},"versions":[`)
    for (const [i, { version, validFrom, validTo, keyId, requestId }] of lines.entries()) {
      const times = { valid_from: text(validFrom), valid_to: text(validTo) }
      const line = { version, ...times, key_id: keyId, request_id: requestId }
      answer.text(`${i > 0 ? ',' : ''}${JSON.stringify(line)}`)
      if (i % LINES_A_TURN === LINES_A_TURN - 1) await this.#turns.next(request.owner)
    }
    answer.text(']}')
    return { body: answer.end(), count: lines.length }
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
    const { owner } = request
    const { texts, refs, at } = await this.#withForm({ owner, body }, RESOLVE, (form) =>
      referencesOf(form(['refs', 'at'])),
    )
    checkPrefix(
      request.prefix,
      refs.map(({ name }) => name),
    )
    const { secrets } = this.#services()
    const { values, missing } = await secrets.resolve(request, refs, at, this.#room(request))
    if (missing.length > 0) {
      const names = [...new Set(missing.map((i) => texts[i]))]
      throw new Problem('refs-not-found', `${names.length} of the references are not found`, {
        missing: names,
      })
    }
    const hint = values.reduce((sum, { length }) => sum + length + 3, 64)
    const answer = new Answer({ hint, limit: this.#answerBytes, share: request.share })
    answer.text('{"values":[')
    let turnEnd = BYTES_A_TURN
    for (const [i, value] of values.entries()) {
      if (i > 0) answer.text(',')
      answer.string(value, 0, value.length)
      if (answer.size < turnEnd) continue
      turnEnd = answer.size + BYTES_A_TURN
      await this.#turns.next(request.owner)
    }
    answer.text(']}')
    return { body: answer.end(), names: refs.map(({ name }) => name), ...versionOfOne(refs) }
  }

  /** Gives `work` the form of a body by its known members, and the names of all. Names places of faults. */
  async #withForm<T>(
    { owner, body }: { readonly owner: string; readonly body: Uint8Array },
    { paths, limit }: SecretShape,
    work: (form: (known: readonly string[]) => Form, members: readonly string[]) => T,
  ): Promise<T> {
    const scanned = { owner, body, paths, limit }
    const scan = await this.#scanner.scan(scanned)
    try {
      return work(
        (known) => new Form(body, paths, scan, known),
        scan.members.map(({ name }) => name),
      )
    } catch (error) {
      if (!(error instanceof FaultAt)) throw error
      const [path] = await this.#scanner.pathsOf(scanned, [error.place])
      throw error.problem(path)
    }
  }

  #room({ share }: Reader): (bytes: number) => void {
    return (bytes) => {
      if (bytes > this.#answerBytes) throw answerTooLarge(this.#answerBytes)
      share.roomFor(bytes)
    }
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

function whichOf({ version, at }: Json): VersionSelector {
  if (version !== undefined && at !== undefined)
    throw badRequest('at', 'either version or at', 'version and at exclude each other')
  if (version !== undefined) return { version: Number(version) }
  // In a query an unescaped `+` reads as a space.
  return at === undefined ? {} : { at: instantOf(String(at).replace(/ (?=\d\d:\d\d$)/, '+')) }
}
