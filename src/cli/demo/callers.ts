// Callers of a demo: many at once, over all nodes. Several callers send the same values at the same time.
import type { Coffer } from '../../client/index.ts'
import { OperatorError } from '../../errors.ts'
import { sleep, until } from '../../waiting.ts'
import { explain } from '../terminal/failure.ts'

/** Values of a request. */
const BATCH = 20
/** Between two requests of a caller: the demo shares the machine with three nodes. */
const PAUSE_MS = 20
/** Callers draw from the first values at the beginning, and from more with every request. */
const FIRST_VALUES = 300
const MORE_VALUES = 5
/** How long a chapter waits for the requests of callers. */
const PATIENCE_MS = 60_000

/** Number `i` of nobody: social security numbers never begin with 9. */
export function numberOf(i: number): string {
  const digits = String(100_000_000 + i * 7).slice(1)
  return `9${digits.slice(0, 2)}-${digits.slice(2, 4)}-${digits.slice(4)}`
}

/** The answers to all callers: tokens by epoch and value, and values by token. */
export class Book {
  readonly #tokens = new Map<string, string>()
  readonly #values = new Map<string, string>()
  #conflicts = 0

  add(epoch: number, value: string, token: string): void {
    const place = `${epoch} ${value}`
    const [known, meant] = [this.#tokens.get(place), this.#values.get(token)]
    if ((known ?? token) !== token || (meant ?? value) !== value) this.#conflicts++
    this.#tokens.set(place, token)
    this.#values.set(token, value)
  }

  /** The number of second tokens of a value, and of second values of a token. */
  get conflicts(): number {
    return this.#conflicts
  }

  /** The tokens of an epoch with their values. */
  ofEpoch(epoch: number): { readonly tokens: readonly string[]; readonly values: readonly string[] } {
    const found = [...this.#values].filter(([token]) => token.startsWith(`tok_${epoch}_`))
    return { tokens: found.map(([token]) => token), values: found.map(([, value]) => value) }
  }
}

/** An answered request. Times are of `performance.now()`. */
type Answered = { readonly began: number; readonly epoch: number; readonly isMixed: boolean }

type Summary = {
  readonly answers: readonly Answered[]
  readonly failures: readonly string[]
  /** The longest time without an answer to any caller. */
  readonly longestGapMs: number
}

/** The part of a client for callers. */
type Tokenizing = Pick<Coffer, 'tokenize'>

export class Callers implements AsyncDisposable {
  readonly #book: Book
  readonly #answers: Answered[] = []
  readonly #failures: string[] = []
  readonly #running: Promise<void>
  #isStopping = false
  #lastAnswer = performance.now()
  #longestGapMs = 0

  /** Each client becomes a caller, at once. */
  constructor(clients: readonly Tokenizing[], book: Book) {
    this.#book = book
    this.#running = Promise.all(clients.map((client) => this.#call(client))).then(() => undefined)
  }

  /** Resolves when so many more requests have been answered. Throws OperatorError after a minute. */
  async more(requests: number): Promise<void> {
    const enough = this.#answers.length + requests
    const done = (): boolean => this.#answers.length >= enough || this.#failures.length > 0
    if (await until(done, { every: 10, within: PATIENCE_MS })) return
    throw new OperatorError(`the callers have had no ${requests} answers within ${PATIENCE_MS / 1000} s`, {
      hint: 'see whether the machine is busy, and try again',
    })
  }

  /** Resolves when every caller has its last answer. */
  async stop(): Promise<Summary> {
    this.#isStopping = true
    await this.#running
    return { answers: this.#answers, failures: this.#failures, longestGapMs: this.#longestGapMs }
  }

  /** Where a chapter fails, its callers would keep the process alive. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  async #call(client: Tokenizing): Promise<void> {
    while (!this.#isStopping) {
      const values = this.#draw()
      const began = performance.now()
      try {
        const { epoch, tokens } = await client.tokenize(values)
        this.#note(began, epoch, tokens.map(String))
        for (const [i, token] of tokens.entries()) this.#book.add(epoch, values[i], String(token))
      } catch (error) {
        this.#failures.push(explain(error).text)
      }
      await sleep(PAUSE_MS)
    }
  }

  #note(began: number, epoch: number, tokens: readonly string[]): void {
    const now = performance.now()
    this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#lastAnswer)
    this.#lastAnswer = now
    const isMixed = tokens.some((token) => !token.startsWith(`tok_${epoch}_`))
    this.#answers.push({ began, epoch, isMixed })
  }

  #draw(): string[] {
    const reach = FIRST_VALUES + MORE_VALUES * this.#answers.length
    return Array.from({ length: BATCH }, () => numberOf(Math.floor(Math.random() * reach)))
  }
}
