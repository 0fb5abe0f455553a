// Answers with tokens and values: their sizes before the tokens exist, since room for an answer is taken
// before anything is stored; and their bytes.
import { tokenLength, tokenPrefix } from '../crypto/token.ts'
import type { ResolvedTokens } from '../tokens/detokenize.ts'
import type { Tokens } from '../tokens/tokens.ts'
import type { Answer } from './answer.ts'
import type { Form } from './form.ts'

/** Bytes of an answer: most of them depend on the epoch, whose number is in every token. */
export type Extent = {
  /** Under an epoch. */
  with(epoch: number): number
}

/** Bytes of an answer written in a turn of the event loop: few tokens may stand for 64 MiB. */
const BYTES_A_TURN = 2 * 1024 * 1024
const EPOCH_MEMBER = '{"epoch":,'.length

/** `{"epoch":3,"tokens":[…]}`: `index[n]` < 0 is a null; `more`: bytes of further members. */
export function columnsSize(index: Int32Array, more = 1): Extent {
  const tokens = countOf(index)
  const nulls = index.length - tokens
  const commas = Math.max(0, index.length - 1)
  const rest = EPOCH_MEMBER + '"tokens":[]'.length + nulls * 'null'.length + commas + more
  return { with: (epoch) => digits(epoch) + rest + tokens * (tokenLength(epoch) + 2) }
}

/** `{"epoch":3,"records":[…],"replaced":12}`: the places with `index[n]` >= 0 are replaced. */
export function recordsSize(form: Form, places: readonly number[], index: Int32Array): Extent {
  const { start, end } = form.scan
  const list = form.list('records')
  const tokens = countOf(index)
  let kept = list.end - list.start
  for (let n = 0; n < places.length; n++) if (index[n] >= 0) kept -= end[places[n]] - start[places[n]]
  const rest = EPOCH_MEMBER + '"records":,"replaced":}'.length + digits(tokens) + kept
  return { with: (epoch) => digits(epoch) + rest + tokens * (tokenLength(epoch) + 2) }
}

function countOf(index: Int32Array): number {
  let count = 0
  for (const each of index) if (each >= 0) count++
  return count
}

function digits(number: number): number {
  return String(number).length
}

/** `more`: the members behind, and the end of the answer. */
export function writeColumns(answer: Answer, tokens: Tokens, index: Int32Array, more = '}'): void {
  const prefix = tokenPrefix(tokens.epoch)
  answer.text(`{"epoch":${tokens.epoch},"tokens":[`)
  for (let n = 0; n < index.length; n++) {
    if (n > 0) answer.comma()
    if (index[n] < 0) answer.text('null')
    else answer.token(tokens, index[n], prefix)
  }
  answer.text(`]${more}`)
}

/** Place n of a body has the token or value `index[n]`; -1: the bytes of the body stay. */
type Replaced = { readonly places: readonly number[]; readonly index: Int32Array }

export function writeRecords(answer: Answer, form: Form, tokens: Tokens, { places, index }: Replaced): void {
  const { start, end } = form.scan
  const list = form.list('records')
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
}

/** Token n of a request has the value `index[n]` of `values`; -1: none. */
type Opened = Pick<ResolvedTokens, 'values'> & { readonly index: Int32Array }

/** The answer up to the end of its values. */
export async function writeValues(
  answer: Answer,
  { values, index }: Opened,
  turn: () => Promise<void>,
): Promise<void> {
  let turnEnd = BYTES_A_TURN
  answer.text('{"values":[')
  for (let n = 0; n < index.length; n++) {
    if (n > 0) answer.comma()
    if (index[n] >= 0) answer.value(values, index[n])
    else answer.text('null')
    if (answer.size < turnEnd) continue
    turnEnd = answer.size + BYTES_A_TURN
    await turn()
  }
}

/** The answer up to the end of its records. */
export async function writeOpened(
  answer: Answer,
  form: Form,
  { places, index, values, turn }: Opened & Replaced & { readonly turn: () => Promise<void> },
): Promise<void> {
  const { start, end } = form.scan
  const list = form.list('records')
  let turnEnd = BYTES_A_TURN
  answer.text('{"records":')
  let from = list.start
  for (let n = 0; n < places.length; n++) {
    if (index[n] < 0) continue
    answer.raw(form.body, from, start[places[n]])
    answer.value(values, index[n])
    from = end[places[n]]
    if (answer.size < turnEnd) continue
    turnEnd = answer.size + BYTES_A_TURN
    await turn()
  }
  answer.raw(form.body, from, list.end)
}
