// Questions and answers of a vault as bytes of JSON. Between threads bytes cost a copy, lists of strings more
// than all other work on the strings.
import type { Operation, Scalar } from '../table/vault.ts'
import type { Answers, Question } from './batches.ts'
import { textOf } from './scalars.ts'

/** The body of a request. */
export function bodyOf({ operation, values, allowTokens = false }: Question): Uint8Array<ArrayBuffer> {
  const allow = allowTokens ? { allow_tokens: true } : {}
  const body = operation === 'tokenize' ? { values, ...allow } : { tokens: values }
  return new TextEncoder().encode(JSON.stringify(body))
}

/** The question of a body. */
export function questionOf(operation: Operation, body: Uint8Array): Question {
  const { values, tokens, allow_tokens: allowTokens } = parsed(body) as BodyOf // made by `bodyOf`
  return { operation, values: values ?? tokens ?? [], ...(allowTokens ? { allowTokens } : {}) }
}

type BodyOf = {
  readonly values?: readonly Scalar[]
  readonly tokens?: readonly Scalar[]
  readonly allow_tokens?: boolean
}

/** The answers to `count` values; undefined for bytes that are not the answer of a vault. */
export function answersIn(operation: Operation, body: Uint8Array, count: number): Answers | undefined {
  const answer = parsed(body)
  if (typeof answer !== 'object' || answer === null) return undefined
  const answers: unknown = Reflect.get(answer, operation === 'detokenize' ? 'values' : 'tokens')
  if (!Array.isArray(answers) || answers.length !== count || !answers.every(isScalar)) return undefined
  const epoch: unknown = Reflect.get(answer, 'epoch')
  // Without new tokens no token has the epoch.
  const isOfTokens = typeof epoch === 'number' && answers.some((each) => each !== null)
  return { answers, epochs: isOfTokens ? [epoch] : [] }
}

/** Answers as text: answer i is `bytes` from `starts[i]` to `ends[i]` (exclusive); `ends[i]` -1: none. */
export type AnswerColumn = {
  readonly bytes: Uint8Array
  readonly starts: Uint32Array
  readonly ends: Int32Array
}

/** As `answersIn`, as texts. */
export function columnIn(operation: Operation, body: Uint8Array, count: number): AnswerColumn | undefined {
  const column = spansIn(operation, body, count)
  if (column) return column
  const answers = answersIn(operation, body, count)?.answers
  return answers && columnOf(answers)
}

export function columnOf(answers: readonly Scalar[]): AnswerColumn {
  const texts = answers.map(textOf)
  const bytes = Buffer.from(texts.join(''))
  const starts = new Uint32Array(texts.length)
  const ends = new Int32Array(texts.length).fill(-1)
  let at = 0
  for (const [i, text] of texts.entries()) {
    if (text === null) continue
    starts[i] = at
    at += Buffer.byteLength(text)
    ends[i] = at
  }
  return { bytes, starts, ends }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const CLOSE = 0x5d
const LETTER_N = 0x6e
/** The list begins within the first bytes of an answer. */
const HEAD_BYTES = 64

/** As `columnIn`; undefined, too, for an answer with escapes, white space or lists in lists. */
function spansIn(operation: Operation, body: Uint8Array, count: number): AnswerColumn | undefined {
  const member = operation === 'detokenize' ? '"values":[' : '"tokens":['
  const found = Buffer.from(body.buffer, body.byteOffset, Math.min(body.length, HEAD_BYTES)).indexOf(member)
  if (found < 0) return undefined
  const starts = new Uint32Array(count)
  const ends = new Int32Array(count)
  let at = found + member.length
  for (let i = 0; i < count; i++) {
    const isText = body[at] === QUOTE
    const start = isText ? at + 1 : at
    const end = isText ? endOfText(body, start) : endOfWord(body, start)
    if (end <= start && !isText) return undefined
    if (end < 0) return undefined
    starts[i] = start
    ends[i] = !isText && body[start] === LETTER_N ? -1 : end
    at = isText ? end + 1 : end
    if (body[at] !== (i === count - 1 ? CLOSE : COMMA)) return undefined
    at++
  }
  return { bytes: body, starts, ends }
}

/** The place of the closing quote; -1 where there is an escape before. */
function endOfText(body: Uint8Array, start: number): number {
  for (let i = start; i < body.length; i++) {
    if (body[i] === QUOTE) return i
    if (body[i] === BACKSLASH) return -1
  }
  return -1
}

/** The end of a number in RFC 8785 form, or of `true`, `false`, `null`; -1 for other bytes. */
function endOfWord(body: Uint8Array, start: number): number {
  let i = start
  while (i < body.length && IS_WORD[body[i]] === 1) i++
  return i === body.length ? -1 : i
}

const IS_WORD = new Uint8Array(256)
for (const byte of Buffer.from('0123456789abcdefghijklmnopqrstuvwxyz+-.')) IS_WORD[byte] = 1

function parsed(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8'))
  } catch {
    return undefined
  }
}

function isScalar(value: unknown): value is Scalar {
  return typeof value !== 'object' || value === null
}
