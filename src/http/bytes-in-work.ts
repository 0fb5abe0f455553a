// Bytes in work: of bodies as they arrive and inflate, and of answers until flushed. Counted for each
// owner and in all: an owner gets at most half.
import { assert } from '../assert.ts'
import { Problem } from '../errors.ts'

export class BytesInWork {
  readonly #most: number
  readonly #ofOwner = new Map<string, number>()
  #total = 0

  /** `most`: bytes of all owners together. */
  constructor(most: number) {
    this.#most = most
  }

  get total(): number {
    return this.#total
  }

  /** The bytes of a new request of the owner: none so far. */
  share(owner: string): Share {
    return new Share(this, owner)
  }

  /** Throws Problem `overloaded`, and takes nothing, where the owner or all owners would have too much. */
  take(owner: string, bytes: number): void {
    const own = (this.#ofOwner.get(owner) ?? 0) + bytes
    if (own > this.#most / 2)
      throw new Problem('overloaded', 'too many bytes of this owner are in work: send fewer at once')
    if (this.#total + bytes > this.#most) throw new Problem('overloaded', 'too many bytes are in work')
    this.#ofOwner.set(owner, own)
    this.#total += bytes
  }

  give(owner: string, bytes: number): void {
    const own = (this.#ofOwner.get(owner) ?? 0) - bytes
    assert(own >= 0, 'an owner gives back no more bytes than it has taken')
    if (own > 0) this.#ofOwner.set(owner, own)
    else this.#ofOwner.delete(owner)
    this.#total -= bytes
  }
}

/** The bytes in work of a request. */
export class Share {
  readonly #bytes: BytesInWork
  readonly #owner: string
  #body = 0
  #answer = 0
  #released = false

  constructor(bytes: BytesInWork, owner: string) {
    this.#bytes = bytes
    this.#owner = owner
  }

  /** More bytes of the body are there. Throws Problem `overloaded`. */
  takeBody(bytes: number): void {
    assert(!this.#released, 'a body is taken before its request ends')
    this.#bytes.take(this.#owner, bytes)
    this.#body += bytes
  }

  /**
   * Makes room for an answer of `bytes` bytes in all; room made before counts. Called before a write: an
   * answer with room is never refused for its bytes. Throws Problem `overloaded`.
   */
  roomFor(bytes: number): void {
    if (this.#released || bytes <= this.#answer) return
    this.#bytes.take(this.#owner, bytes - this.#answer)
    this.#answer = bytes
  }

  /** The answer is whole, with `bytes` bytes, and the body not needed. Throws Problem `overloaded`. */
  answered(bytes: number): void {
    if (this.#released) return
    this.#bytes.give(this.#owner, this.#body)
    this.#body = 0
    this.roomFor(bytes)
    this.#bytes.give(this.#owner, this.#answer - bytes)
    this.#answer = bytes
  }

  /** The answer is flushed, or nobody waits for an answer. May be called again. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#bytes.give(this.#owner, this.#body + this.#answer)
  }
}
