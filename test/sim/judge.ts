// The judge: a model of a vault that says of each answer whether the answer could be, by the laws of docs/design.md. It
// imports nothing of the product. Instants are places in the order of the history: no two are equal. Secrets are judged
// at the end (judge-secrets.ts).

import type { Answer, Ask, Call, Line } from './asks.ts'
import { judgeSecrets } from './judge-secrets.ts'
import { Known } from './known.ts'
import { check } from './violation.ts'

export type { Answer, Ask, Line, Ref, Write } from './asks.ts'
export { Violation } from './violation.ts'

type Issue = { readonly owner: string; readonly value: string; readonly answered: number }

const REFUSALS: Readonly<Record<Ask['kind'], readonly string[]>> = {
  tokenize: ['not-ready', 'quota-exceeded'],
  detokenize: [],
  retokenize: ['not-ready', 'quota-exceeded'],
  rotate: ['epoch-conflict', 'quota-exceeded'],
  epochs: [],
  write: [
    'secret-exists',
    'not-found',
    'version-conflict',
    'idempotency-in-progress',
    'not-ready',
    'quota-exceeded',
  ],
  read: ['not-found', 'invalid-request'],
  resolve: ['refs-not-found', 'invalid-request'],
  history: ['not-found'],
  names: [],
}

/** Of a clock that was changed meanwhile. */
export const ANY_TIME: Call['clock'] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]

/** Judged by judge-access.ts. */
const BY_ACCESS = ['unauthorized', 'forbidden']

export class Judge {
  readonly calls: Call[] = []
  /** Acknowledged tokens, in the order of issue. */
  readonly tokens: string[] = []
  readonly #issues = new Map<string, Issue>()
  /** By owner and epoch: values and their tokens. */
  readonly #byValue = new Map<string, Map<string, string>>()
  /** By epoch: the rotations that may have opened the epoch. */
  readonly #openers = new Map<string, Set<Call>>()
  /** Epochs that were told to be opened. */
  readonly #opened = new Set<string>()
  readonly #epochs = new Map<string, Known>()
  /** Counts of acknowledged tokens by owner and epoch, and values that anybody has asked for by owner. */
  readonly #counts = new Map<string, Known>()
  readonly #values = new Map<string, Set<string>>()
  /** Begins of versions that were told, in milliseconds since 1970. */
  readonly begins: number[] = []
  #instant = 0

  /** `id`: as the versions that a call writes name the call. */
  begin(ask: Ask, id = `c${this.calls.length}`): Call {
    const answered = Number.POSITIVE_INFINITY
    const call: Call = {
      id,
      ask,
      asked: ++this.#instant,
      answered,
      clock: ANY_TIME,
      answer: { kind: 'unknown' },
    }
    this.calls.push(call)
    if (ask.kind === 'rotate') this.#openersOf(ask.owner, ask.to).add(call)
    if (ask.kind === 'tokenize') {
      const values = this.#values.get(ask.owner) ?? new Set()
      this.#values.set(ask.owner, values)
      for (const value of ask.values) values.add(value)
    }
    return call
  }

  /** Throws Violation where the answer cannot be. */
  end(call: Call, answer: Answer, clock: Call['clock'] = ANY_TIME): void {
    call.answered = ++this.#instant
    call.clock = clock
    if (answer.kind === 'written') this.begins.push(answer.validFrom)
    call.answer = answer
    const { ask } = call
    if (answer.kind === 'refused')
      check(
        [...REFUSALS[ask.kind], ...BY_ACCESS].includes(answer.slug),
        `${ask.kind} was refused: ${answer.slug}`,
      )
    if (ask.kind === 'tokenize' && answer.kind === 'tokens') this.#issued(call, ask, answer)
    if (ask.kind === 'detokenize' && answer.kind === 'values') this.#resolved(call, ask, answer.values)
    if (ask.kind === 'retokenize' && answer.kind === 'retokens') this.#retokenized(call, ask, answer)
    if (ask.kind === 'rotate') this.#judgeOpeners(call, ask, answer)
    const epoch = epochOf(call)
    if (epoch !== undefined) this.#checkEpoch(call, epoch)
    if (answer.kind === 'active') this.#checkCounts(call, answer.counts ?? [])
    if (ask.kind === 'rotate' && answer.kind === 'rotated') {
      check(answer.epoch === ask.to, 'law 4: another epoch was opened than the one asked for')
      const name = `${ask.owner}@${ask.to}`
      check(!answer.rotated || !this.#opened.has(name), `law 4: ${name} was opened twice`)
      if (answer.rotated) this.#opened.add(name)
    }
    if (ask.kind === 'rotate' && answer.kind === 'refused')
      check(epoch !== ask.to && epoch !== ask.to - 1, 'law 4: a rotation was refused without a reason')
  }

  /** As `judgeSecrets`. */
  judgeSecrets(histories: ReadonlyMap<string, readonly Line[]>): void {
    judgeSecrets(this.calls, histories)
  }

  /** Acknowledged tokens with their owners and values, in the order of issue. */
  get issues(): IterableIterator<[string, { readonly owner: string; readonly value: string }]> {
    return this.#issues.entries()
  }

  /** Of an acknowledged token. */
  issue(token: string): Pick<Issue, 'owner' | 'value'> | undefined {
    return this.#issues.get(token)
  }

  /** The active epoch, as far as clients know. */
  activeEpoch(owner: string): number {
    return Math.max(1, this.#epochs.get(owner)?.last ?? 0)
  }

  #issued(
    { answered }: Call,
    { owner, values }: Extract<Ask, { kind: 'tokenize' }>,
    { epoch, tokens }: Extract<Answer, { kind: 'tokens' }>,
  ): void {
    check(tokens.length === values.length, 'every value has a token')
    const name = `${owner}@${epoch}`
    const byValue = this.#byValue.get(name) ?? new Map<string, string>()
    this.#byValue.set(name, byValue)
    const prefix = `tok_${epoch}_`
    for (const [i, value] of values.entries()) {
      const token = tokens[i]
      check(token.startsWith(prefix), 'law 3: an answer has tokens of one epoch')
      check((byValue.get(value) ?? token) === token, 'law 2: a value has two tokens')
      const issue = this.#issues.get(token)
      const same = issue?.owner === owner && issue.value === value
      check(!issue || same, 'law 2: a token stands for two values')
      if (issue) continue
      byValue.set(value, token)
      this.#issues.set(token, { owner, value, answered })
      this.tokens.push(token)
    }
    const known = this.#counts.get(name) ?? new Known()
    this.#counts.set(name, known)
    known.note(answered, byValue.size)
  }

  /** `counts`: of the tokens of each epoch from 1 on. */
  #checkCounts({ ask: { owner }, asked }: Call, counts: readonly number[]): void {
    const most = this.#values.get(owner)?.size ?? 0
    for (const [i, count] of counts.entries()) {
      const least = this.#counts.get(`${owner}@${i + 1}`)?.before(asked) ?? 0
      check(count >= least, 'laws 1 and 4: fewer tokens than were acknowledged')
      check(count <= most, 'law 2: more tokens than values')
    }
  }

  /** As values that are asked for again: of the tokens that are the owner's. */
  #retokenized(
    call: Call,
    { owner, tokens }: Extract<Ask, { kind: 'retokenize' }>,
    answer: Extract<Answer, { kind: 'retokens' }>,
  ): void {
    const found = tokens.map((token, i) =>
      answer.tokens[i] === undefined ? undefined : this.#issues.get(token),
    )
    this.#resolved(
      call,
      { owner, tokens },
      found.map((issue) => issue?.value),
    )
    const own = [...tokens.keys()].filter((i) => found[i]?.owner === owner)
    const unknown = answer.tokens.filter((token) => token !== undefined).length - own.length
    check(unknown === 0, 'law 9: a token of another owner, or of nobody, has a token')
    const values = own.map((i) => found[i]?.value ?? '')
    const now = own.map((i) => answer.tokens[i] ?? '')
    this.#issued(
      call,
      { kind: 'tokenize', owner, values },
      { kind: 'tokens', epoch: answer.epoch, tokens: now },
    )
  }

  #resolved(
    { asked }: Call,
    { owner, tokens }: { readonly owner: string; readonly tokens: readonly string[] },
    values: readonly (string | undefined)[],
  ): void {
    for (const [i, token] of tokens.entries()) {
      const issue = this.#issues.get(token)
      if (!issue || issue.owner !== owner)
        check(values[i] === undefined, 'law 9: a token of another owner, or of nobody, has a value')
      else {
        const known = issue.answered < asked
        check(!known || values[i] !== undefined, 'laws 1 and 6: an acknowledged token was not found')
        check(values[i] === undefined || values[i] === issue.value, 'law 2: a token has another value')
      }
    }
  }

  #openersOf(owner: string, epoch: number): Set<Call> {
    const name = `${owner}@${epoch}`
    const openers = this.#openers.get(name) ?? new Set()
    this.#openers.set(name, openers)
    return openers
  }

  /** A rotation that was told to have had no effect has not opened an epoch that was seen before. */
  #judgeOpeners(call: Call, { owner, to }: Extract<Ask, { kind: 'rotate' }>, answer: Answer): void {
    const mayHaveOpened = answer.kind === 'unknown' || (answer.kind === 'rotated' && answer.rotated)
    if (mayHaveOpened) return
    this.#openersOf(owner, to).delete(call)
    if (to > 1 && to <= (this.#epochs.get(owner)?.last ?? 0)) this.#checkOpened(owner, to)
  }

  #checkOpened(owner: string, epoch: number): void {
    check(this.#openersOf(owner, epoch).size > 0, 'law 3: an epoch that nobody has opened')
  }

  /** Laws 3 and 4: the epoch was active at an instant between question and answer. */
  #checkEpoch({ ask: { owner }, asked, answered }: Call, epoch: number): void {
    const known = this.#epochs.get(owner) ?? new Known()
    this.#epochs.set(owner, known)
    check(known.before(asked) <= epoch, 'laws 3 and 4: an epoch that was closed before the question')
    for (let opened = Math.max(known.last, 1) + 1; opened <= epoch; opened++) this.#checkOpened(owner, opened)
    known.note(answered, epoch)
  }
}

/** The epoch that an answer calls active. */
function epochOf({ answer, ask }: Call): number | undefined {
  if (answer.kind === 'refused') return ask.kind === 'rotate' ? answer.number : undefined
  return 'epoch' in answer ? answer.epoch : undefined
}
