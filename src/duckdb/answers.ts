// Answers for the values of a chunk: every distinct value is asked for once, and recent answers are kept.
import { assert } from '../assert.ts'
import { type Operation, type Scalar, TOKEN } from '../table/vault.ts'
import type { Answers, Question } from './batches.ts'
import { KEPT, KEPT_CHARACTERS, Keeping } from './keeping.ts'
import { textOf } from './scalars.ts'
import type { BlockingVault } from './vault-thread.ts'

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

/** Values without an answer in the cache; `asked`: the values with possible answers, and their entries. */
type Missing = { readonly values: Scalar[]; readonly asked: Scalar[]; readonly entries: Entry[] }

export class CachedAnswers {
  readonly #vault: BlockingVault
  readonly #question: CachedQuestion
  #young = new Map<Scalar, Entry>()
  #old = new Map<Scalar, Entry>()
  #characters = 0
  readonly #keeping: Keeping

  constructor(vault: BlockingVault, question: CachedQuestion) {
    this.#vault = vault
    this.#question = question
    this.#keeping = new Keeping(question.keptMs)
  }

  /** `result[i]` is the answer for value i; null for null. Throws VaultError. */
  of(values: readonly Scalar[]): (Answer | null)[] {
    if (this.#keeping.isOver()) this.#forget()
    const { entries, missing } = this.#lookUp(values)
    if (missing.asked.length > 0) {
      try {
        this.#complete(missing, this.#vault.ask(this.#questionOf(missing)))
      } catch (error) {
        this.#keeping.begin()
        this.#forget() // the entries have no answers
        throw error
      }
    }
    this.#tell(missing.values)
    this.#limit({ rows: values.length, hits: values.length - missing.values.length })
    return entries
  }

  /**
   * Asks for values that will come, and does not block. Returns whether there is room for about as many more.
   * Throws VaultError.
   */
  async ahead(values: readonly Scalar[]): Promise<boolean> {
    const { missing } = this.#lookUp(values)
    if (missing.asked.length > 0)
      this.#complete(missing, await this.#vault.askLater(this.#questionOf(missing)))
    this.#tell(missing.values)
    return this.#young.size * 2 <= KEPT && this.#characters * 2 <= KEPT_CHARACTERS
  }

  #lookUp(values: readonly Scalar[]): {
    readonly entries: (Entry | null)[]
    readonly missing: Missing
  } {
    const entries: (Entry | null)[] = new Array(values.length)
    const missing: Missing = { values: [], asked: [], entries: [] }
    for (let i = 0; i < values.length; i++) {
      const value = values[i]
      let entry = value === null ? null : this.#find(value)
      if (entry === undefined) {
        entry = { text: null, isAsked: this.#hasForm(value) }
        this.#keep(value, entry)
        missing.values.push(value)
        if (entry.isAsked) {
          missing.asked.push(value)
          missing.entries.push(entry)
        }
      }
      entries[i] = entry
    }
    return { entries, missing }
  }

  #questionOf({ asked }: Missing): Question {
    const { operation, allowTokens } = this.#question
    return { operation, allowTokens, values: asked }
  }

  #find(value: Scalar): Entry | undefined {
    const young = this.#young.get(value)
    if (young !== undefined) return young
    const old = this.#old.size === 0 ? undefined : this.#old.get(value)
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

  #complete({ entries }: Missing, { answers, epochs }: Answers): void {
    for (const epoch of epochs) this.#question.epochs?.add(epoch)
    assert(answers.length === entries.length, 'every value asked for has an answer or null')
    for (const [i, entry] of entries.entries()) {
      const text = textOf(answers[i])
      entry.text = text
      this.#characters += lengthOf(text)
    }
  }

  #tell(values: readonly Scalar[]): void {
    const { answered } = this.#question
    if (answered) for (const value of values) answered(value, this.#entryOf(value))
  }

  #limit(values: { readonly rows: number; readonly hits: number }): void {
    const decision = this.#keeping.decide(values, this.#young.size, this.#characters)
    if (decision === 'stay') return
    this.#old = decision === 'turn' ? this.#young : new Map()
    this.#young = new Map()
    this.#characters = 0
  }

  #forget(): void {
    this.#young = new Map()
    this.#old = new Map()
    this.#characters = 0
  }
}

function lengthOf(value: Scalar): number {
  return typeof value === 'string' ? value.length : 1
}
