// Answers are written as bytes: tokens straight from their bodies, values straight from their canonical
// forms.
import { TYPE, type Values } from '../crypto/canonical.ts'
import { writeTokenText } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import type { Tokens } from '../tokens/tokens.ts'
import type { Share } from './bytes-in-work.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c

/** Answers are cut to size from this slack on: an answer may wait long for its reader. */
const SLACK_BYTES = 65_536

type AnswerRoom = {
  /** The expected size in bytes. */
  readonly hint: number
  /** The most bytes of an answer. */
  readonly limit: number
  /** Counts the room in work. */
  readonly share: Pick<Share, 'roomFor'>
}

export class Answer {
  #bytes: Buffer
  #used = 0
  readonly #limit: number
  readonly #share: Pick<Share, 'roomFor'>

  /** Its methods throw Problem: answer-too-large, where `limit` bytes are passed; overloaded. */
  constructor({ hint, limit, share }: AnswerRoom) {
    const size = Math.max(64, Math.min(hint, limit))
    share.roomFor(size)
    this.#bytes = Buffer.allocUnsafe(size)
    this.#limit = limit
    this.#share = share
  }

  text(ascii: string): void {
    const at = this.#reserve(ascii.length)
    this.#bytes.write(ascii, at, 'latin1')
  }

  comma(): void {
    const at = this.#reserve(1)
    this.#bytes[at] = COMMA
  }

  raw(source: Uint8Array, start: number, end: number): void {
    const at = this.#reserve(end - start)
    this.#bytes.set(source.subarray(start, end), at)
  }

  /** A token in quotes. `prefix` is tokenPrefix(tokens.epoch). */
  token(tokens: Tokens, index: number, prefix: Uint8Array): void {
    const length = prefix.length
    const at = this.#reserve(length + 34)
    const bytes = this.#bytes
    bytes[at] = QUOTE
    for (let i = 0; i < length; i++) bytes[at + 1 + i] = prefix[i]
    writeTokenText(bytes, at + 1 + length, tokens.bodies, index * 16, tokens.checks, index * 16)
    bytes[at + length + 33] = QUOTE
  }

  /** A value as JSON, from its canonical form. */
  value(values: Values, index: number): void {
    const start = values.offset[index] * 8
    const end = start + values.length[index]
    const { bytes } = values
    const type = bytes[start]
    if (type === TYPE.true) this.text('true')
    else if (type === TYPE.false) this.text('false')
    else if (type === TYPE.number) this.raw(bytes, start + 1, end)
    else this.string(bytes, start + 1, end)
  }

  /** A string as JSON, from its UTF-8. */
  string(source: Uint8Array, start: number, end: number): void {
    let plain = true
    for (let i = start; i < end; i++) {
      const byte = source[i]
      if (byte < 0x20 || byte === QUOTE || byte === BACKSLASH) {
        plain = false
        break
      }
    }
    if (!plain) {
      const text = Buffer.from(source.buffer, source.byteOffset + start, end - start).toString('utf8')
      const json = Buffer.from(JSON.stringify(text), 'utf8')
      this.raw(json, 0, json.length)
      return
    }
    const at = this.#reserve(end - start + 2)
    const bytes = this.#bytes
    bytes[at] = QUOTE
    if (end - start <= 48) for (let i = start, to = at + 1; i < end; i++) bytes[to++] = source[i]
    else bytes.set(source.subarray(start, end), at + 1)
    bytes[at + 1 + end - start] = QUOTE
  }

  #reserve(size: number): number {
    const at = this.#used
    const need = at + size
    if (need > this.#limit) throw answerTooLarge(this.#limit)
    if (need > this.#bytes.length) {
      const larger = Math.min(this.#limit, Math.max(need, this.#bytes.length * 2))
      this.#share.roomFor(larger)
      const bytes = Buffer.allocUnsafe(larger)
      this.#bytes.copy(bytes, 0, 0, at)
      this.#bytes = bytes
    }
    this.#used = need
    return at
  }

  /** Bytes so far. */
  get size(): number {
    return this.#used
  }

  end(): Buffer {
    const answer = this.#bytes.subarray(0, this.#used)
    return this.#bytes.length - this.#used > SLACK_BYTES ? Buffer.from(answer) : answer
  }
}

export function answerTooLarge(limit: number): Problem {
  return new Problem('answer-too-large', `the answer is larger than ${limit} bytes`)
}
