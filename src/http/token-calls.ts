// The token calls: bodies in, values to the service, bytes out.
import { MAX_EPOCH } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import { KIND, type ScanLimit } from '../json/matches.ts'
import { Paths } from '../json/paths.ts'
import { ScanThread } from '../json/scan-thread.ts'
import { type NamedTokens, NO_TOKEN, type ResolvedTokens, type RoomForValues } from '../tokens/detokenize.ts'
import { AlreadyToken, LEDGER_MS, type RoomUnder, type TokenRequest, type Tokens } from '../tokens/tokens.ts'
import { Answer, answerTooLarge } from './answer.ts'
import type { Share } from './bytes-in-work.ts'
import { FaultAt, Form, type Limits, readTokens, readValues } from './form.ts'
import { badRequest } from './problems.ts'
import type { Services } from './services.ts'
import {
  columnsSize,
  type Extent,
  recordsSize,
  writeColumns,
  writeOpened,
  writeRecords,
  writeValues,
} from './token-answers.ts'
import { Turns } from './turns.ts'

/** A request, with its bytes in work. */
export type AskedTokens = TokenRequest & { readonly share: Share }

/** The answer of a call, and the numbers for the event log and the metrics. */
export type TokenAnswer = {
  readonly answer: Buffer
  readonly epoch?: number
  /** Tokens or values asked for: nulls are none. */
  readonly count: number
  readonly missing?: number
  readonly fresh?: number
}

type RotateAnswer = {
  readonly answer: Buffer
  readonly epoch: number
  /** False where the epoch was open already. */
  readonly rotated: boolean
  /** Of the ledger. */
  readonly revision: number
}

type EpochsAnswer = {
  readonly answer: Buffer
  /** The active epoch. */
  readonly epoch: number
  /** How many epochs there are. */
  readonly count: number
}

/**
 * The paths and members of a body, and the first leaf whose matches are limited. `records`: the leaf of
 * records, whose objects are counted.
 */
type FormShape = {
  readonly paths: Paths
  readonly known: readonly string[]
  readonly leaf: number
  readonly records?: number
}

// Leaf numbers: the order of the paths below. REQUIRE and VALUE: of tokenize; TOKEN: of detokenize. The
// configured fields follow.
const RECORD = 0
const REQUIRE = 1
const VALUE = 2
const TOKEN = 1

/** A configured field has at most 512 characters. */
const FIELD_BYTES = 2048
/** More than any answer to a rotation takes. */
const ROTATED_BYTES = 64

const RETOKENIZE: FormShape = { paths: new Paths(['tokens[]']), known: ['tokens'], leaf: 0 }
const ROTATE: FormShape = { paths: new Paths(['to']), known: ['to'], leaf: 0 }

export class TokenCalls {
  readonly #services: () => Services
  readonly #limits: Limits
  /** The configured fields. */
  readonly fields: readonly string[]
  readonly #turns = new Turns()
  readonly #scanner = new ScanThread()
  readonly #tokenizeShape: FormShape
  readonly #detokenizeShape: FormShape
  /** Matches of each configured field, and records seen: a field without matches is probably a mistake. */
  readonly fieldMatches: Float64Array
  records = 0

  constructor(services: () => Services, fields: readonly string[], limits: Limits) {
    this.#services = services
    this.#limits = limits
    this.fields = fields
    this.fieldMatches = new Float64Array(fields.length)
    const inRecords = fields.map((field) => `records[].${field}`)
    this.#tokenizeShape = {
      paths: new Paths(['records[]', 'require[]', 'values[]', ...inRecords]),
      known: ['records', 'values', 'allow_tokens', 'require'],
      leaf: VALUE,
      records: RECORD,
    }
    this.#detokenizeShape = {
      paths: new Paths(['records[]', 'tokens[]', ...inRecords, 'token']),
      known: ['records', 'tokens', 'token'],
      leaf: TOKEN,
      records: RECORD,
    }
  }

  tokenize(asked: AskedTokens, body: Uint8Array): Promise<TokenAnswer> {
    return this.#withForm(asked, body, this.#tokenizeShape, (form) => this.#tokenize(asked, form))
  }

  async #tokenize(asked: AskedTokens, form: Form): Promise<TokenAnswer> {
    const main = form.oneOf(['records', 'values'])
    form.list(main.name)
    const allow = form.flag('allow_tokens')
    const required = requiredFields(form, this.fields)
    if (main.name === 'records') checkRecords(form)
    if (required.length > 0) await this.#checkRequired(asked, form, required)
    const { places, values, index } = await this.#turn(asked, form, () =>
      readValues(form, this.#limits, VALUE),
    )
    if (main.name === 'records') this.#count(form)
    const size = main.name === 'values' ? columnsSize(index) : recordsSize(form, places, index)
    const room = this.#makeRoom(asked, size)
    let tokens: Tokens & { readonly fresh: number }
    try {
      tokens = await this.#services().tokens.tokenize(withTime(asked), values, allow, room)
    } catch (error) {
      if (!(error instanceof AlreadyToken)) throw error
      const reason = 'tokens are not tokenized again, unless allow_tokens is true'
      throw new FaultAt(
        places[index.indexOf(error.index)],
        (path) => new Problem('already-a-token', 'a value is a valid token already', { path, reason }),
      )
    }
    const answer = await this.#turn(asked, form, () => {
      const answer = this.#answer(asked, size.with(tokens.epoch))
      if (main.name === 'values') writeColumns(answer, tokens, index)
      else writeRecords(answer, form, tokens, { places, index })
      return answer.end()
    })
    return { answer, epoch: tokens.epoch, count: values.count, fresh: tokens.fresh }
  }

  detokenize(asked: AskedTokens, body: Uint8Array): Promise<TokenAnswer> {
    return this.#withForm(asked, body, this.#detokenizeShape, (form) => {
      const { name } = form.oneOf(['records', 'tokens', 'token'])
      if (name === 'token') return this.#detokenizeOne(asked, form)
      form.list(name)
      return name === 'tokens' ? this.#detokenizeColumn(asked, form) : this.#detokenizeRecords(asked, form)
    })
  }

  async #detokenizeColumn(asked: AskedTokens, form: Form): Promise<TokenAnswer> {
    const places = placesFrom(form, TOKEN)
    const named = await this.#turn(asked, form, () => readTokens(form, places, true))
    const { values, index } = await this.#open(asked, named)
    const lost = notFound(named, index)
    const hint = values.used * 8 + index.length * 6 + lost.length * 7 + 64
    const answer = this.#answer(asked, hint)
    await writeValues(answer, { values, index }, this.#turnsOf(asked))
    answer.text(`],"not_found":[${lost.join(',')}]}`)
    return { answer: answer.end(), count: values.count + lost.length, missing: lost.length }
  }

  async #detokenizeRecords(asked: AskedTokens, form: Form): Promise<TokenAnswer> {
    checkRecords(form)
    const places = placesFrom(form, TOKEN)
    const named = await this.#turn(asked, form, () => readTokens(form, places, false))
    const { values, index } = await this.#open(asked, named)
    const lost = notFound(named, index)
    const scanned = this.#scannedBody(asked, form.body, this.#detokenizeShape)
    const wanted = lost.map((n) => places[n])
    const paths = await this.#scanner.pathsOf(scanned, wanted)
    const listed = Buffer.from(`,"not_found":${JSON.stringify(paths.map(splitRecordPath))}}`, 'utf8')
    const list = form.list('records')
    const answer = this.#answer(asked, list.end - list.start + values.used * 8 + listed.length + 64)
    await writeOpened(answer, form, { values, index, places, turn: this.#turnsOf(asked) })
    answer.raw(listed, 0, listed.length)
    return { answer: answer.end(), count: values.count + lost.length, missing: lost.length }
  }

  async #detokenizeOne(asked: AskedTokens, form: Form): Promise<TokenAnswer> {
    const kind = form.member('token')?.kind
    if (kind !== KIND.string && kind !== KIND.escaped)
      throw badRequest('token', 'a token as a string', 'a token is a string')
    const named = readTokens(form, [form.scan.count - 1], true)
    const { values, index } = await this.#open(asked, named)
    if (index[0] < 0) throw new Problem('not-found', 'there is no such token')
    const answer = this.#answer(asked, values.used * 8 + 64)
    answer.text('{"value":')
    answer.value(values, 0)
    answer.text('}')
    return { answer: answer.end(), count: 1, missing: 0 }
  }

  #open(asked: AskedTokens, named: NamedTokens): Promise<ResolvedTokens> {
    return this.#services().tokens.detokenize(withTime(asked), named, this.#roomForValues(asked))
  }

  #roomForValues({ share }: AskedTokens): RoomForValues {
    const most = this.#limits.answer_bytes
    return (bytes) => {
      if (bytes > most) throw answerTooLarge(most)
      share.roomFor(bytes)
    }
  }

  retokenize(asked: AskedTokens, body: Uint8Array): Promise<TokenAnswer> {
    return this.#withForm(asked, body, RETOKENIZE, (form) => this.#retokenize(asked, form))
  }

  async #retokenize(asked: AskedTokens, form: Form): Promise<TokenAnswer> {
    form.list('tokens')
    const places = placesFrom(form, 0)
    const named = await this.#turn(asked, form, () => readTokens(form, places, true))
    /** The members behind the tokens, and the end of the answer. */
    const behind = (lost: readonly number[]): string => `,"not_found":[${lost.join(',')}]}`
    const found = (index: Int32Array): RoomUnder =>
      this.#makeRoom(asked, columnsSize(index, behind(notFound(named, index)).length))
    const watch = { room: this.#roomForValues(asked), found }
    const { tokens: service } = this.#services()
    const { index, ...tokens } = await service.retokenize(withTime(asked), named, watch)
    const lost = notFound(named, index)
    const { epoch, fresh } = tokens
    const answer = this.#answer(asked, columnsSize(index, behind(lost).length).with(epoch))
    writeColumns(answer, tokens, index, behind(lost))
    const count = index.reduce((sum, each) => sum + Number(each >= 0), 0) + lost.length
    return { answer: answer.end(), epoch, count, missing: lost.length, fresh }
  }

  rotate(asked: AskedTokens, body: Uint8Array): Promise<RotateAnswer> {
    return this.#withForm(asked, body, ROTATE, async (form) => {
      const expected = 'the number of the epoch to open: a positive integer'
      if (form.member('to')?.kind !== KIND.number) throw badRequest('to', expected, '`to` is not a number')
      const { start, end } = form.scan
      const to = Number(Buffer.from(body.subarray(start[0], end[0])).toString('latin1'))
      if (!Number.isInteger(to) || to < 1) throw badRequest('to', expected, '`to` is not a positive integer')
      asked.share.roomFor(ROTATED_BYTES)
      const { epoch, rotated, revision } = await this.#services().tokens.rotate(asked, to)
      return { answer: Buffer.from(JSON.stringify({ epoch, rotated })), epoch, rotated, revision }
    })
  }

  async epochs(request: TokenRequest): Promise<EpochsAnswer> {
    const list = await this.#services().tokens.epochs(request)
    return { answer: Buffer.from(JSON.stringify(list)), epoch: list.active, count: list.epochs.length }
  }

  /** Scans the body for `work`, and names the place of a fault. */
  async #withForm<T>(
    asked: AskedTokens,
    body: Uint8Array,
    shape: FormShape,
    work: (form: Form) => Promise<T>,
  ): Promise<T> {
    const scanned = this.#scannedBody(asked, body, shape)
    try {
      return await work(new Form(body, shape.paths, await this.#scanner.scan(scanned), shape.known))
    } catch (error) {
      if (!(error instanceof FaultAt)) throw error
      const [path] = await this.#scanner.pathsOf(scanned, [error.place])
      throw error.problem(path)
    }
  }

  /** Records but objects, and fields named twice by `require`, are refused: the first are enough. */
  #scannedBody({ owner }: AskedTokens, body: Uint8Array, { paths, leaf, records: counted }: FormShape) {
    const before = this.fields.length + 1
    const limit: ScanLimit = { leaf, matches: this.#limits.values, what: 'values or tokens', counted, before }
    return { owner, body, paths, limit }
  }

  #turn<T>({ owner }: AskedTokens, form: Form, work: () => T): Promise<T> {
    return this.#turns.take({ owner, bytes: form.body.length }, work)
  }

  #turnsOf({ owner }: AskedTokens): () => Promise<void> {
    return () => this.#turns.next(owner)
  }

  /** Every record has the fields. */
  async #checkRequired({ owner }: AskedTokens, { body }: Form, fields: readonly string[]): Promise<void> {
    const path = await this.#scanner.gapIn({ owner, body }, fields)
    if (path !== undefined) throw new Problem('field-missing', 'a record lacks a required field', { path })
  }

  /**
   * Before tokens are stored. Returns the check of the size, for once the epoch is known: an answer is not
   * refused for its size afterwards.
   */
  #makeRoom({ share }: AskedTokens, size: Extent): RoomUnder {
    const most = this.#limits.answer_bytes
    const check = (epoch: number): void => {
      if (size.with(epoch) > most) throw answerTooLarge(most)
    }
    check(1)
    share.roomFor(Math.min(most, size.with(MAX_EPOCH)))
    return check
  }

  #answer({ share }: AskedTokens, hint: number): Answer {
    return new Answer({ hint, limit: this.#limits.answer_bytes, share })
  }

  #count(form: Form): void {
    const { count, leaf, objects } = form.scan
    this.records += objects
    for (let i = 0; i < count; i++) if (leaf[i] > VALUE) this.fieldMatches[leaf[i] - VALUE - 1]++
  }

  close(): Promise<void> {
    return this.#scanner.close()
  }

  /** Configured fields without a match so far. */
  unmatched(): string[] {
    return this.fields.filter((_, i) => this.fieldMatches[i] === 0)
  }
}

/** Every record is an object: objects are counted, and all else at their path is listed. Throws FaultAt. */
function checkRecords({ scan: { count, leaf } }: Form): void {
  for (let i = 0; i < count; i++) {
    if (leaf[i] === RECORD)
      throw new FaultAt(i, (path) => badRequest(path, 'an object', 'a record is an object'))
  }
}

/** The fields that `require` names; none where it is not there. Throws Problem invalid-request, FaultAt. */
function requiredFields(form: Form, configured: readonly string[]): string[] {
  const member = form.member('require')
  if (!member) return []
  form.list('require')
  if (form.member('records') === undefined)
    throw badRequest('require', 'records beside it', 'require is for records')
  const { count, kinds, leaf } = form.scan
  const fields = new Set<string>()
  for (let i = 0; i < count; i++) {
    if (leaf[i] !== REQUIRE) continue
    const isText = kinds[i] === KIND.string || kinds[i] === KIND.escaped
    const field = isText ? form.string(i, FIELD_BYTES) : undefined
    if (field === undefined || !configured.includes(field))
      throw new FaultAt(i, (path) => badRequest(path, 'a configured field', 'require names no field'))
    if (fields.has(field))
      throw new FaultAt(i, (path) => badRequest(path, 'each field once', 'require names a field twice'))
    fields.add(field)
  }
  return [...fields]
}

/**
 * A large body is read and computed in turns, which may last for as long as others have theirs: then too, a
 * ledger with quorum gets its time.
 */
function withTime({ owner, deadline }: AskedTokens): TokenRequest {
  return { owner, deadline: deadline.atLeast(LEDGER_MS) }
}

function placesFrom(form: Form, leaf: number): number[] {
  const places: number[] = []
  for (let i = 0; i < form.scan.count; i++) if (form.scan.leaf[i] >= leaf) places.push(i)
  return places
}

/** Indices of the tokens that were not found. */
function notFound({ epochs }: NamedTokens, index: Int32Array): number[] {
  const lost: number[] = []
  for (let n = 0; n < index.length; n++) if (index[n] < 0 && epochs[n] !== NO_TOKEN) lost.push(n)
  return lost
}

/** `records[3].contacts[0].phone` → record 3, path `contacts[0].phone`. */
function splitRecordPath(path: string): { record: number; path: string } {
  const match = /^records\[(\d+)\]\.?(.*)$/s.exec(path)
  return { record: Number(match?.[1]), path: match?.[2] ?? path }
}
