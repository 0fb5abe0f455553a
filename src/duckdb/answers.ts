// Answers for the values of a chunk: every distinct value is asked for once, and recent answers are kept.
import type { Operation, Scalar } from '../table/vault.ts'
import type { BlockingVault } from './vault-thread.ts'

const CACHED = 65_536
/** A rotation of epochs, and a removed key, are seen after so long. */
const CACHED_MS = 5_000

/** Counts over all chunks. `epochs`: of new tokens. */
export type Counts = {
  /** Rows with a value, and without an answer. */
  notFound: number
  readonly epochs: Set<number>
}

export function noCounts(): Counts {
  return { notFound: 0, epochs: new Set() }
}

export class CachedAnswers {
  readonly #vault: BlockingVault
  readonly #question: { readonly operation: Operation; readonly allowTokens: boolean }
  readonly #counts: Counts
  readonly #cache = new Map<Scalar, Scalar>()
  #began = 0
  #hits = 0
  /** Few values come again: keeping the answers costs more time than asking again. */
  #isUseless = false

  constructor(
    vault: BlockingVault,
    question: { readonly operation: Operation; readonly allowTokens: boolean },
    counts: Counts,
  ) {
    this.#vault = vault
    this.#question = question
    this.#counts = counts
  }

  /** `result[i]` is the answer for value i; null: not found, or null itself. Throws VaultError. */
  of(values: readonly Scalar[]): Scalar[] {
    this.#expire()
    const found = new Map<Scalar, Scalar>()
    const missing: Scalar[] = []
    for (const value of values) {
      if (value === null || found.has(value)) continue
      const cached = this.#cache.get(value)
      if (cached === undefined) missing.push(value)
      else this.#hits++
      found.set(value, cached ?? null)
    }
    if (missing.length > 0) this.#ask(missing, found)
    const counts = this.#counts
    return values.map((value) => {
      if (value === null) return null
      const answer = found.get(value) ?? null
      if (answer === null) counts.notFound++
      return answer
    })
  }

  #ask(missing: readonly Scalar[], found: Map<Scalar, Scalar>): void {
    const { answers, epochs } = this.#vault.ask({ ...this.#question, values: missing })
    for (const epoch of epochs) this.#counts.epochs.add(epoch)
    for (let i = 0; i < missing.length; i++) found.set(missing[i], answers[i])
    if (this.#cache.size + missing.length > CACHED) this.#startAgain(this.#hits < CACHED / 8)
    if (this.#isUseless) return
    for (let i = 0; i < missing.length; i++) this.#cache.set(missing[i], answers[i])
  }

  #expire(): void {
    const now = performance.now()
    if (now - this.#began < CACHED_MS) return
    this.#began = now
    this.#startAgain(false)
  }

  #startAgain(isUseless: boolean): void {
    this.#cache.clear()
    this.#hits = 0
    this.#isUseless = isUseless
  }
}
