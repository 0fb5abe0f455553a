// The requests to a vault, made of numbered values and their tokens. Answers are compared to the last byte
// with the expected answer.
import { Body, type Work } from './load.ts'
import { inOrder, type Order, VALUE_BYTES, writeValue } from './values.ts'
import { apiKey } from './vault.ts'

const TEXT_CHARS = 32
const BETWEEN = '","'

/** The texts of many tokens of one epoch, without their prefix: 32 bytes each. */
export class TokenTexts {
  readonly bytes: Buffer
  readonly epoch: number
  readonly prefix: string

  constructor(capacity: number, epoch = 1) {
    this.bytes = Buffer.allocUnsafeSlow(capacity * TEXT_CHARS)
    this.epoch = epoch
    this.prefix = `tok_${epoch}_`
  }
}

/** `order` gives the value of place i; request n has the places from n * batch on. */
export type Run = {
  readonly batch: number
  readonly requests: number
  readonly order: Order
  /** Of request n. */
  readonly owner: (n: number) => string
}

/** Runs of `count` values at most, in whole batches. */
export function runOf(owner: string, batch: number, count: number, order: Order): Run {
  return { batch, requests: Math.floor(count / batch), order, owner: () => owner }
}

/** New values; their tokens are kept in `texts`. */
export function newValues(run: Run, texts: TokenTexts): Work {
  const keep = tokenKeeper(run, texts, ']}')
  return work('/tokenize', run, (n, body) => listValues(body, n, run), keep)
}

/** Values with known tokens: the answer must have exactly those tokens. */
export function knownValues(run: Run, texts: TokenTexts): Work {
  const due = comparer((n, body) => {
    body.text(`{"epoch":${texts.epoch},`)
    listTokens(body, n, run, texts)
    body.text('}')
  })
  return work('/tokenize', run, (n, body) => listValues(body, n, run), due)
}

/** Known tokens: the answer must have exactly their values. */
export function knownTokens(run: Run, texts: TokenTexts): Work {
  const due = comparer((n, body) => {
    listValues(body, n, run)
    body.at--
    body.text(',"not_found":[]}')
  })
  return work('/detokenize', run, (n, body) => askTokens(body, n, run, texts), due)
}

/** Tokens of an older epoch; the tokens of the new epoch are kept in `fresh`. */
export function oldTokens(run: Run, old: TokenTexts, fresh: TokenTexts): Work {
  const keep = tokenKeeper(run, fresh, '],"not_found":[]}')
  return work('/retokenize', run, (n, body) => askTokens(body, n, run, old), keep)
}

/** Opens epoch `to` of the n-th owner. */
export function rotations(owners: readonly string[], to: number): Work {
  const run = { batch: 1, requests: owners.length, order: inOrder(0), owner: (n: number) => owners[n] }
  const due = comparer((_, body) => body.text(`{"epoch":${to},"rotated":true}`))
  return work('/rotate-epoch', run, (_, body) => body.text(`{"to":${to}}`), due)
}

/** Values, to the echo server. */
export function echoes(batch: number): Work {
  const run = runOf('nobody', batch, Number.MAX_SAFE_INTEGER, (i) => i % 0x1_0000_0000)
  const write = (n: number, body: Body): void => listValues(body, n, run)
  return work('/echo', run, write, comparer(write))
}

function work(path: string, run: Run, write: Work['write'], check: Checker): Work {
  const { batch, requests, owner } = run
  return {
    path,
    batch,
    requests,
    key: (n) => apiKey(owner(n)),
    write,
    check: (n, answer) => {
      if (check(n, answer)) return
      throw new Error(`${path}: wrong answer to request ${n}: ${answer.toString('latin1', 0, 300)}`)
    },
  }
}

/** `{"values":[…]}` with the values of request n. */
export function listValues(body: Body, n: number, { batch, order }: Pick<Run, 'batch' | 'order'>): void {
  body.text('{"values":["')
  body.reserve(batch * (VALUE_BYTES + BETWEEN.length))
  const { bytes } = body
  let at = body.at
  for (let i = n * batch; i < (n + 1) * batch; i++) {
    at = writeValue(bytes, at, order(i))
    bytes[at] = 0x22
    bytes[at + 1] = 0x2c
    bytes[at + 2] = 0x22
    at += 3
  }
  body.at = at - 2
  body.text(']}')
}

/** `"tokens":[…]` with the tokens of request n. */
function listTokens(body: Body, n: number, { batch, order }: Run, texts: TokenTexts): void {
  body.text('"tokens":["')
  body.reserve(batch * (texts.prefix.length + TEXT_CHARS + BETWEEN.length))
  const { bytes } = body
  const between = Buffer.from(BETWEEN + texts.prefix, 'latin1')
  let at = body.at + bytes.write(texts.prefix, body.at, 'latin1')
  for (let i = n * batch; i < (n + 1) * batch; i++) {
    const from = order(i) * TEXT_CHARS
    for (let j = 0; j < TEXT_CHARS; j++) bytes[at + j] = texts.bytes[from + j]
    at += TEXT_CHARS
    for (let j = 0; j < between.length; j++) bytes[at + j] = between[j]
    at += between.length
  }
  body.at = at - between.length + 1
  body.text(']')
}

function askTokens(body: Body, n: number, run: Run, texts: TokenTexts): void {
  body.text('{')
  listTokens(body, n, run, texts)
  body.text('}')
}

/** Whether the answer to request n is right. */
type Checker = (n: number, answer: Buffer) => boolean

/** Compares the whole answer with the output of `write` for the request's number. */
function comparer(write: (n: number, body: Body) => void): Checker {
  const due = new Body()
  return (n, answer) => {
    due.clear()
    const start = due.at
    write(n, due)
    return answer.equals(due.bytes.subarray(start, due.at))
  }
}

/** Takes the tokens of an answer, whose form is known to the byte. */
function tokenKeeper(run: Run, texts: TokenTexts, tail: string): Checker {
  const head = Buffer.from(`{"epoch":${texts.epoch},"tokens":["${texts.prefix}`, 'latin1')
  const between = Buffer.from(BETWEEN + texts.prefix, 'latin1')
  const end = Buffer.from(`"${tail}`, 'latin1')
  const length = head.length + run.batch * (TEXT_CHARS + between.length) - between.length + end.length
  return (n, answer) => {
    if (answer.length !== length) return false
    let same =
      head.equals(answer.subarray(0, head.length)) && end.equals(answer.subarray(length - end.length))
    let at = head.length
    for (let i = 0; i < run.batch; i++) {
      const to = run.order(n * run.batch + i) * TEXT_CHARS
      for (let j = 0; j < TEXT_CHARS; j++) texts.bytes[to + j] = answer[at + j]
      at += TEXT_CHARS
      if (i === run.batch - 1) break
      for (let j = 0; j < between.length; j++) if (answer[at + j] !== between[j]) same = false
      at += between.length
    }
    return same
  }
}
