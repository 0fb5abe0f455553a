// Answers for a column of tokens, as bytes from DuckDB to the vault and back: a million distinct tokens take
// most of their time as strings. Every distinct token is asked for once, and answers are kept, as in
// answers.ts.

import { epochOfToken } from '../table/vault.ts'
import type { AnswerColumn } from './bodies.ts'
import { Keeping } from './keeping.ts'
import type { Texts } from './texts.ts'
import { KEY_BYTES, TokenCache } from './token-cache.ts'
import type { BlockingVault, Body } from './vault-thread.ts'
import type { TextBytes } from './written-texts.ts'

/** Of rows, in place of the number of a token. */
const NULL = -1
const NO_TOKEN = -2

const HEAD = Buffer.from('{"tokens":[')
const TAIL = Buffer.from(']}')
/** Tokens of a question: a half of a chunk of DuckDB, so that the vault works on a half meanwhile. */
const ASKED_TOGETHER = 1_024
const QUOTE = 0x22
const COMMA = 0x2c

type Options = {
  readonly operation: 'detokenize' | 'retokenize'
  /** Milliseconds until a rotation of epochs, and a removed key, are seen. */
  readonly keptMs: number
}

export class TokenAnswers {
  readonly #vault: BlockingVault
  readonly #operation: Options['operation']
  readonly #keeping: Keeping
  #young = new TokenCache()
  #old = new TokenCache()
  /** The bytes of the token at work. */
  readonly #key = new Uint8Array(KEY_BYTES)
  readonly #words = new Uint32Array(this.#key.buffer)

  constructor(vault: BlockingVault, { operation, keptMs }: Options) {
    this.#vault = vault
    this.#operation = operation
    this.#keeping = new Keeping(keptMs)
  }

  /** The answers for all rows; `notFound`: rows with a text that have no answer. Throws VaultError. */
  of(texts: Texts): TextBytes & { readonly notFound: number } {
    if (this.#keeping.isOver()) this.#forget()
    const rows = texts.lengths.length
    const numbers = new Int32Array(rows)
    let asked = 0
    try {
      asked = this.#ask(texts, numbers)
    } catch (error) {
      this.#keeping.begin()
      this.#forget() // tokens have no answers
      throw error
    }
    const found = this.#collect(numbers)
    this.#limit({ rows, hits: rows - asked })
    return found
  }

  /**
   * Sets the number of the token of each row, and asks for the tokens that are not there. Returns how many
   * tokens were asked for. Throws VaultError.
   */
  #ask(texts: Texts, numbers: Int32Array): number {
    let asked = 0
    this.#vault.askColumns(this.#questions(texts, numbers), (question, column) => {
      asked += question.count
      this.#complete(question.numbers, column)
    })
    return asked
  }

  /** Sets the number of the token of each row. Gives the tokens that are not there, each once. */
  *#questions(texts: Texts, numbers: Int32Array): Generator<Body & { readonly numbers: Int32Array }> {
    for (let row = 0; row < numbers.length; ) {
      const most = Math.min(ASKED_TOGETHER, numbers.length - row)
      const body = new Uint8Array(HEAD.length + most * (KEY_BYTES + 2) + TAIL.length)
      const asked = new Int32Array(most)
      let count = 0
      let at = HEAD.length
      body.set(HEAD)
      for (; row < numbers.length && count < most; row++) {
        const length = this.#take(texts, row)
        numbers[row] = length < 0 ? length : this.#find()
        if (length < 0 || numbers[row] >= 0) continue
        numbers[row] = asked[count++] = this.#young.add(this.#words)
        at = this.#write(body, at, length)
      }
      if (count === 0) continue
      body.set(TAIL, at - 1) // in place of the last comma
      const question = { operation: this.#operation, count, body: body.subarray(0, at - 1 + TAIL.length) }
      yield { ...question, numbers: asked.subarray(0, count) }
    }
  }

  /** Writes the token at work. Returns the place behind the token. */
  #write(body: Uint8Array, from: number, length: number): number {
    const key = this.#key
    let at = from
    body[at++] = QUOTE
    for (let i = 0; i < length; i++) body[at + i] = key[i]
    at += length
    body[at++] = QUOTE
    body[at++] = COMMA
    return at
  }

  /** Makes the token of a row the token at work. Returns its bytes, or NULL, or NO_TOKEN. */
  #take(texts: Texts, row: number): number {
    const length = texts.lengths[row]
    if (length < 0) return NULL
    if (length > KEY_BYTES) return NO_TOKEN
    texts.seek(row)
    const { bytes, at } = texts
    if (epochOfToken(bytes, at, at + length) === 0) return NO_TOKEN
    const key = this.#key
    this.#words.fill(0)
    for (let i = 0; i < length; i++) key[i] = bytes[at + i]
    return length
  }

  #find(): number {
    const young = this.#young.find(this.#words)
    if (young >= 0 || this.#old.count === 0) return young
    const old = this.#old.find(this.#words)
    return old < 0 ? -1 : this.#young.take(this.#old, old, this.#words)
  }

  #complete(numbers: Int32Array, { bytes, starts, ends }: AnswerColumn): void {
    const young = this.#young
    for (let i = 0; i < numbers.length; i++) {
      if (ends[i] < 0) young.leave(numbers[i])
      else young.answer(numbers[i], bytes, starts[i], ends[i])
    }
  }

  #collect(numbers: Int32Array): TextBytes & { readonly notFound: number } {
    const young = this.#young
    const lengths = new Int32Array(numbers.length)
    let size = 0
    let notFound = 0
    for (let row = 0; row < numbers.length; row++) {
      const number = numbers[row]
      const length = number < 0 ? -1 : young.lengthOf(number)
      lengths[row] = length
      if (length >= 0) size += length
      else if (number !== NULL) notFound++
    }
    const bytes = new Uint8Array(size)
    for (let row = 0, at = 0; row < numbers.length; row++) {
      if (lengths[row] < 0) continue
      young.copy(numbers[row], bytes, at)
      at += lengths[row]
    }
    return { bytes, lengths, notFound }
  }

  #limit(values: { readonly rows: number; readonly hits: number }): void {
    const decision = this.#keeping.decide(values, this.#young.count, this.#young.bytes)
    if (decision === 'stay') return
    if (decision === 'turn') this.#old = this.#young
    else if (this.#old.count > 0) this.#old = new TokenCache()
    this.#young = decision === 'forget' ? this.#young.emptied() : new TokenCache()
  }

  #forget(): void {
    this.#young = new TokenCache()
    this.#old = new TokenCache()
  }
}
