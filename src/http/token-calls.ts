// The token calls: bodies in, values to the service, bytes out.
import { tokenLength, tokenPrefix } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import { KIND } from '../json/matches.ts'
import { Paths } from '../json/paths.ts'
import { UNLIMITED } from '../json/scan.ts'
import { ScanThread } from '../json/scan-thread.ts'
import { AlreadyToken, LEDGER_MS, type TokenRequest, type Tokens } from '../tokens/tokens.ts'
import { Answer } from './answer.ts'
import { Form, type Limits, readTokens, readValues } from './form.ts'
import { badRequest } from './problems.ts'
import { pathOfGap, Required } from './required.ts'
import type { Services } from './services.ts'
import { Turns } from './turns.ts'

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

/** The paths and members of a body, and the first leaf whose matches are limited. */
type FormShape = { readonly paths: Paths; readonly known: readonly string[]; readonly leaf: number }

// Leaf numbers: the order of the paths below. REQUIRE and VALUE: of tokenize; TOKEN: of detokenize. The
// configured fields follow.
const RECORD = 0
const REQUIRE = 1
const VALUE = 2
const TOKEN = 1

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
    }
    this.#detokenizeShape = {
      paths: new Paths(['records[]', 'tokens[]', ...inRecords, 'token']),
      known: ['records', 'tokens', 'token'],
      leaf: TOKEN,
    }
  }

  async tokenize(request: TokenRequest, body: Uint8Array): Promise<TokenAnswer> {
    const form = await this.#form(body, this.#tokenizeShape)
    const main = form.oneOf(['records', 'values'])
    form.list(main.name)
    const allow = form.flag('allow_tokens')
    const required = requiredFields(form, this.fields)
    if (main.name === 'records') await this.#checkRecords(form)
    if (required.length > 0) await this.#checkRequired(form, required)
    const { places, values, index } = await this.#turns.take(body.length, () =>
      readValues(form, this.#limits, VALUE),
    )
    if (main.name === 'records') this.#count(form)
    let tokens: Tokens & { readonly fresh: number }
    try {
      tokens = await this.#services().tokens.tokenize(withTime(request), values, allow)
    } catch (error) {
      if (!(error instanceof AlreadyToken)) throw error
      throw new Problem('already-a-token', 'a value is a valid token already', {
        path: form.pathOf(places[index.indexOf(error.index)]),
        reason: 'tokens are not tokenized again, unless allow_tokens is true',
      })
    }
    const answer = await this.#turns.take(body.length, () =>
      main.name === 'values' ? this.#columns(tokens, index) : this.#records(form, places, tokens, index),
    )
    return { answer, epoch: tokens.epoch, count: values.count, fresh: tokens.fresh }
  }

  #columns(tokens: Tokens, index: Int32Array): Buffer {
    const answer = this.#answer(index.length * (tokenLength(tokens.epoch) + 3) + 64)
    answer.text(`{"epoch":${tokens.epoch},"tokens":`)
    writeTokens(answer, tokens, index)
    answer.text('}')
    return answer.end()
  }

  #records(form: Form, places: readonly number[], tokens: Tokens, index: Int32Array): Buffer {
    const { start, end } = form.scan
    const list = form.list('records')
    const answer = this.#answer(list.end - list.start + places.length * 64 + 64)
    const prefix = tokenPrefix(tokens.epoch)
    answer.text(`{"epoch":${tokens.epoch},"records":`)
    let from = list.start
    let replaced = 0
    for (let n = 0; n < places.length; n++) {
      if (index[n] < 0) continue
      answer.raw(form.body, from, start[places[n]])
      answer.token(tokens, index[n], prefix)
      from = end[places[n]]
      replaced++
    }
    answer.raw(form.body, from, list.end)
    answer.text(`,"replaced":${replaced}}`)
    return answer.end()
  }

  async detokenize(request: TokenRequest, body: Uint8Array): Promise<TokenAnswer> {
    const form = await this.#form(body, this.#detokenizeShape)
    const main = form.oneOf(['records', 'tokens', 'token'])
    if (main.name === 'token') return this.#detokenizeOne(request, form)
    form.list(main.name)
    if (main.name === 'records') await this.#checkRecords(form)
    const places = placesFrom(form, TOKEN)
    const strict = main.name === 'tokens'
    const named = await this.#turns.take(body.length, () => readTokens(form, places, strict))
    const { tokens } = this.#services()
    const { values, index } = await tokens.detokenize(withTime(request), named, this.#limits.answer_bytes)
    const lost = notFound(form, places, index, strict ? undefined : named.epochs)
    const answer = await this.#turns.take(body.length, () =>
      strict ? this.#values(values, index, lost) : this.#opened(form, places, { values, index, lost }),
    )
    return { answer, count: values.count + lost.length, missing: lost.length }
  }

  async #detokenizeOne(request: TokenRequest, form: Form): Promise<TokenAnswer> {
    const kind = form.member('token')?.kind
    if (kind !== KIND.string && kind !== KIND.escaped)
      throw badRequest('token', 'a token as a string', 'a token is a string')
    const named = readTokens(form, [form.scan.count - 1], true)
    const { tokens } = this.#services()
    const { values, index } = await tokens.detokenize(withTime(request), named, this.#limits.answer_bytes)
    if (index[0] < 0) throw new Problem('not-found', 'there is no such token')
    const answer = this.#answer(64)
    answer.text('{"value":')
    answer.value(values, 0)
    answer.text('}')
    return { answer: answer.end(), count: 1, missing: 0 }
  }

  #values(values: Parameters<Answer['value']>[0], index: Int32Array, lost: readonly number[]): Buffer {
    const answer = this.#answer(index.length * 24 + 64)
    answer.text('{"values":[')
    for (let n = 0; n < index.length; n++) {
      if (n > 0) answer.text(',')
      if (index[n] >= 0) answer.value(values, index[n])
      else answer.text('null')
    }
    answer.text(`],"not_found":[${lost.join(',')}]}`)
    return answer.end()
  }

  #opened(
    form: Form,
    places: readonly number[],
    found: { values: Parameters<Answer['value']>[0]; index: Int32Array; lost: readonly number[] },
  ): Buffer {
    const { start, end } = form.scan
    const list = form.list('records')
    const answer = this.#answer(list.end - list.start + 64)
    answer.text('{"records":')
    let from = list.start
    for (let n = 0; n < places.length; n++) {
      if (found.index[n] < 0) continue
      answer.raw(form.body, from, start[places[n]])
      answer.value(found.values, found.index[n])
      from = end[places[n]]
    }
    answer.raw(form.body, from, list.end)
    const listed = form.pathsOf(found.lost.map((n) => places[n])).map(splitRecordPath)
    const json = Buffer.from(`,"not_found":${JSON.stringify(listed)}}`, 'utf8')
    answer.raw(json, 0, json.length)
    return answer.end()
  }

  async retokenize(request: TokenRequest, body: Uint8Array): Promise<TokenAnswer> {
    const form = await this.#form(body, RETOKENIZE)
    form.list('tokens')
    const places = placesFrom(form, 0)
    const named = await this.#turns.take(body.length, () => readTokens(form, places, true))
    const service = this.#services().tokens
    const { index, ...tokens } = await service.retokenize(withTime(request), named, this.#limits.answer_bytes)
    const answer = this.#answer(index.length * (tokenLength(tokens.epoch) + 3) + 64)
    answer.text(`{"epoch":${tokens.epoch},"tokens":`)
    writeTokens(answer, tokens, index)
    const lost = notFound(form, places, index)
    answer.text(`,"not_found":[${lost.join(',')}]}`)
    const found = index.reduce((count, value) => count + Number(value >= 0), 0)
    return {
      answer: answer.end(),
      epoch: tokens.epoch,
      count: found + lost.length,
      missing: lost.length,
      fresh: tokens.fresh,
    }
  }

  async rotate(request: TokenRequest, body: Uint8Array): Promise<RotateAnswer> {
    const form = await this.#form(body, ROTATE)
    const expected = 'the number of the epoch to open: a positive integer'
    if (form.member('to')?.kind !== KIND.number) throw badRequest('to', expected, '`to` is not a number')
    const { start, end } = form.scan
    const to = Number(Buffer.from(body.subarray(start[0], end[0])).toString('latin1'))
    if (!Number.isInteger(to) || to < 1) throw badRequest('to', expected, '`to` is not a positive integer')
    const { epoch, rotated, revision } = await this.#services().tokens.rotate(request, to)
    return { answer: Buffer.from(JSON.stringify({ epoch, rotated })), epoch, rotated, revision }
  }

  async epochs(request: TokenRequest): Promise<EpochsAnswer> {
    const list = await this.#services().tokens.epochs(request)
    return { answer: Buffer.from(JSON.stringify(list)), epoch: list.active, count: list.epochs.length }
  }

  async #form(body: Uint8Array, { paths, known, leaf }: FormShape): Promise<Form> {
    const options = { leaf, matches: this.#limits.values }
    return new Form(body, paths, await this.#scanner.scan(body, paths, options), known)
  }

  /** Every record is an object. */
  #checkRecords(form: Form): Promise<void> {
    const { count, kinds, leaf } = form.scan
    return this.#turns.take(form.body.length, () => {
      for (let i = 0; i < count; i++) {
        if (leaf[i] === RECORD && kinds[i] !== KIND.object) {
          throw badRequest(form.pathOf(i), 'an object', 'a record is an object')
        }
      }
    })
  }

  /** Every record has the fields. A scan of its own: other requests need no places on the way to a field. */
  async #checkRequired({ body, known }: Form, fields: readonly string[]): Promise<void> {
    const required = new Required(fields)
    const scan = await this.#scanner.scan(body, required.paths, UNLIMITED)
    const gap = await this.#turns.take(body.length, () => required.gap(scan))
    if (gap === undefined) return
    const path = new Form(body, required.paths, scan, known).pathOf(gap.match)
    throw new Problem('field-missing', 'a record lacks a required field', { path: pathOfGap(path, gap) })
  }

  #answer(hint: number): Answer {
    return new Answer(hint, this.#limits.answer_bytes)
  }

  #count(form: Form): void {
    const { count, leaf } = form.scan
    for (let i = 0; i < count; i++) {
      if (leaf[i] === RECORD) this.records++
      else if (leaf[i] > VALUE) this.fieldMatches[leaf[i] - VALUE - 1]++
    }
  }

  close(): Promise<void> {
    return this.#scanner.close()
  }

  /** Configured fields without a match so far. */
  unmatched(): string[] {
    return this.fields.filter((_, i) => this.fieldMatches[i] === 0)
  }
}

/** The fields that `require` names; none where it is not there. Throws Problem invalid-request. */
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
    const field = isText ? form.string(i) : undefined
    if (field === undefined || !configured.includes(field))
      throw badRequest(form.pathOf(i), 'a configured field', 'require names something else than a field')
    if (fields.has(field)) throw badRequest(form.pathOf(i), 'each field once', 'require names a field twice')
    fields.add(field)
  }
  return [...fields]
}

/**
 * A large body is read and computed in turns, which may last for as long as others have theirs: then too, a
 * ledger with quorum gets its time.
 */
function withTime({ owner, deadline }: TokenRequest): TokenRequest {
  return { owner, deadline: deadline.atLeast(LEDGER_MS) }
}

function placesFrom(form: Form, leaf: number): number[] {
  const places: number[] = []
  for (let i = 0; i < form.scan.count; i++) if (form.scan.leaf[i] >= leaf) places.push(i)
  return places
}

/**
 * Indices of the tokens that were not found. A null is not a token; where `epochs` are given, neither is a
 * text with epoch 0 (without a token's form).
 */
function notFound(form: Form, places: readonly number[], index: Int32Array, epochs?: Float64Array): number[] {
  const lost: number[] = []
  for (let n = 0; n < index.length; n++) {
    if (index[n] >= 0 || form.scan.kinds[places[n]] === KIND.null) continue
    if (epochs === undefined || epochs[n] > 0) lost.push(n)
  }
  return lost
}

function writeTokens(answer: Answer, tokens: Tokens, index: Int32Array): void {
  const prefix = tokenPrefix(tokens.epoch)
  answer.text('[')
  for (let n = 0; n < index.length; n++) {
    if (n > 0) answer.text(',')
    if (index[n] < 0) answer.text('null')
    else answer.token(tokens, index[n], prefix)
  }
  answer.text(']')
}

/** `records[3].contacts[0].phone` → record 3, path `contacts[0].phone`. */
function splitRecordPath(path: string): { record: number; path: string } {
  const match = /^records\[(\d+)\]\.?(.*)$/s.exec(path)
  return { record: Number(match?.[1]), path: match?.[2] ?? path }
}
