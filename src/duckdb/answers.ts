// Answers for the values of a chunk: every distinct value is asked for once, and recent answers are kept.
import { assert } from '../assert.ts'
import { type Operation, type Scalar, TOKEN } from '../table/vault.ts'
import type { Answers, Question } from './batches.ts'
import { textOf } from './scalars.ts'
import type { BlockingVault } from './vault-thread.ts'

/** Answers in each of two generations, and the characters of their values and answers. */
const CACHED = 262_144
const CACHED_CHARACTERS = 32 * 1024 * 1024
/** Of so many values one has to come again, else the answers are not kept: asking again costs less. */
const USEFUL = 8
/** After so many rows without kept answers the values may be others. */
const FORGETFUL_ROWS = 1_000_000

/** `text` is null where the vault has no answer, or was not asked: the value has not the form of a token. */
export type Answer = { readonly text: string | null; readonly isAsked: boolean }

type CachedQuestion = {
  readonly operation: Operation
  readonly allowTokens: boolean
  /** Milliseconds until a rotation of epochs, and a removed key, are seen. */
  readonly keptMs: number
  /** Receives the epochs of new tokens. */
  readonly epochs?: Set<number>
  /** Called for each value whose answer is not from the cache. */
  readonly answered?: (value: Scalar, answer: Answer) => void
}

type Entry = { text: string | null; isAsked: boolean }

type LookedUp = {
  readonly entries: (Entry | null)[]
  /** Without an answer in the cache. */
  readonly missing: readonly Scalar[]
  /** The values of `missing` that may have an answer. */
  readonly question: Question
}

export class CachedAnswers {
  readonly #vault: BlockingVault
  readonly #question: CachedQuestion
  #young = new Map<Scalar, Entry>()
  #old = new Map<Scalar, Entry>()
  #characters = 0
  #began = performance.now()
  /** Values since the young generation began, and how many of them had come before. */
  #rows = 0
  #hits = 0
  #isUseless = false

  constructor(vault: BlockingVault, question: CachedQuestion) {
    this.#vault = vault
    this.#question = question
  }

  /** `result[i]` is the answer for value i; null for null. Throws VaultError. */
  of(values: readonly Scalar[]): (Answer | null)[] {
    this.#expire()
    const { entries, missing, question } = this.#lookUp(values)
    if (question.values.length > 0) {
      try {
        this.#complete(question.values, this.#vault.ask(question))
      } catch (error) {
        this.#forget() // the entries have no answers
        throw error
      }
    }
    this.#tell(missing)
    this.#rows += values.length
    this.#hits += values.length - missing.length
    this.#limit()
    return entries
  }

  /**
   * Asks for values that will come, and does not block. Returns whether there is room for about as many more.
   * Throws VaultError.
   */
  async ahead(values: readonly Scalar[]): Promise<boolean> {
    const { missing, question } = this.#lookUp(values)
    if (question.values.length > 0) this.#complete(question.values, await this.#vault.askLater(question))
    this.#tell(missing)
    return this.#young.size * 2 <= CACHED && this.#characters * 2 <= CACHED_CHARACTERS
  }

  #lookUp(values: readonly Scalar[]): LookedUp {
    const entries: (Entry | null)[] = new Array(values.length)
    const missing: Scalar[] = []
    for (let i = 0; i < values.length; i++) {
      const value = values[i]
      let entry = value === null ? null : this.#find(value)
      if (entry === undefined) {
        entry = { text: null, isAsked: this.#hasForm(value) }
        this.#keep(value, entry)
        missing.push(value)
      }
      entries[i] = entry
    }
    const { operation, allowTokens } = this.#question
    const asked = missing.filter((value) => this.#entryOf(value).isAsked)
    return { entries, missing, question: { operation, allowTokens, values: asked } }
  }

  #find(value: Scalar): Entry | undefined {
    const young = this.#young.get(value)
    if (young !== undefined) return young
    const old = this.#old.get(value)
    if (old !== undefined) this.#keep(value, old)
    return old
  }

  #keep(value: Scalar, entry: Entry): void {
    this.#young.set(value, entry)
    this.#characters += lengthOf(value) + lengthOf(entry.text)
  }

  #hasForm(value: Scalar): boolean {
    return this.#question.operation === 'tokenize' || (typeof value === 'string' && TOKEN.test(value))
  }

  #entryOf(value: Scalar): Entry {
    const entry = this.#young.get(value)
    assert(entry, 'a value that is asked for has an entry')
    return entry
  }

  /** Completes entries of the young generation. */
  #complete(values: readonly Scalar[], { answers, epochs }: Answers): void {
    for (const epoch of epochs) this.#question.epochs?.add(epoch)
    for (let i = 0; i < values.length; i++) {
      const text = textOf(answers[i])
      this.#entryOf(values[i]).text = text
      this.#characters += lengthOf(text)
    }
  }

  #tell(values: readonly Scalar[]): void {
    const { answered } = this.#question
    if (answered) for (const value of values) answered(value, this.#entryOf(value))
  }

  #expire(): void {
    const now = performance.now()
    if (now - this.#began < this.#question.keptMs) return
    this.#began = now
    this.#forget()
  }

  /** The young generation becomes the old one when it is full. */
  #limit(): void {
    if (this.#isUseless) {
      this.#young = new Map()
      if (this.#rows >= FORGETFUL_ROWS) this.#forget()
    } else if (this.#young.size >= CACHED || this.#characters >= CACHED_CHARACTERS) {
      const isUseless = this.#hits * USEFUL < this.#rows
      const old = isUseless ? new Map() : this.#young
      this.#forget()
      this.#old = old
      this.#isUseless = isUseless
    }
  }

  #forget(): void {
    this.#young = new Map()
    this.#old = new Map()
    this.#characters = 0
    this.#rows = 0
    this.#hits = 0
    this.#isUseless = false
  }
}

function lengthOf(value: Scalar): number {
  return typeof value === 'string' ? value.length : 1
}
