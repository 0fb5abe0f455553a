// The bytes of a body; gzip is inflated piece by piece. Every piece is counted when the piece is there, and
// the body cut at the limit: a small body of gzip holds the bytes inflated so far, and reserves nothing.
import type { IncomingMessage } from 'node:http'
import { createGunzip, type Gunzip } from 'node:zlib'
import { Problem } from '../errors.ts'
import { whenCut } from './cut.ts'

/** The object around a piece takes 200 bytes: a body sent byte by byte would take 200 times its size. */
const BLOCK_BYTES = 16_384
/**
 * Of a large body: a block of this size is a mapping of its own, and goes back to the system. The pieces that
 * sockets give would leave their memory in the heap of malloc.
 */
const LARGE_BLOCK_BYTES = 1024 * 1024
/** Of inflated bytes; from this size on, a buffer of Node has memory of its own. */
const INFLATED_BYTES = 32_768
/** More of a body goes into large blocks. */
const LARGE_FROM_BYTES = 256 * 1024

/** Joins pieces into blocks. A piece of a quarter of a block or more stays as it is. */
class Blocks {
  readonly #out: (block: Buffer) => void
  readonly #size: number
  #tail: Buffer | undefined
  #used = 0

  /** `out` gets all bytes in order. */
  constructor(out: (block: Buffer) => void, size = BLOCK_BYTES) {
    this.#out = out
    this.#size = size
  }

  add(piece: Buffer): void {
    if (piece.length >= this.#size / 4) {
      this.end()
      this.#out(piece)
    } else if (this.#tail === undefined) {
      this.#tail = piece // mostly the whole body
      this.#used = piece.length
    } else {
      if (this.#used + piece.length > this.#tail.length) {
        this.end()
        this.#tail = Buffer.allocUnsafeSlow(this.#size)
        this.#used = 0
      }
      this.#used += piece.copy(this.#tail, this.#used)
      free(piece)
    }
  }

  end(): void {
    if (this.#tail === undefined) return
    const block = this.#tail.subarray(0, this.#used)
    this.#out(this.#used * 2 < this.#tail.length ? Buffer.from(block) : block)
    this.#tail = undefined
  }
}

/** Frees the memory of a piece, where the piece is all of it: else garbage of many MB would pile up. */
function free({ buffer, byteOffset, length }: Buffer): void {
  if (length > BLOCK_BYTES / 4 && byteOffset === 0 && length === buffer.byteLength)
    (buffer as ArrayBuffer).transfer(0)
}

type Receive = {
  readonly gzip: boolean
  /** The largest body in bytes, as sent and inflated. */
  readonly most: number
  /** Called with the size of each piece; throws Problem `overloaded`. */
  readonly take: (bytes: number) => void
  /** Called when the last byte has arrived. */
  readonly arrived: () => void
}

/** The body as far as it is there. */
class Gathered {
  readonly #most: number
  readonly #take: (bytes: number) => void
  readonly #pieces: Buffer[] = []
  #blocks = new Blocks((block) => void this.#pieces.push(block))
  #large = false
  #size = 0

  constructor({ most, take }: Receive) {
    this.#most = most
    this.#take = take
  }

  /** Throws Problem too-large; errors of `take`. */
  add(piece: Buffer): void {
    this.#size += piece.length
    if (this.#size > this.#most) throw tooLarge(this.#most)
    this.#take(piece.length)
    if (!this.#large && this.#size > LARGE_FROM_BYTES) this.#enlarge()
    this.#blocks.add(piece)
  }

  #enlarge(): void {
    this.#large = true
    this.#blocks.end()
    this.#blocks = new Blocks((block) => void this.#pieces.push(block), LARGE_BLOCK_BYTES)
  }

  whole(): Buffer {
    this.#blocks.end()
    return this.#pieces.length === 1 ? this.#pieces[0] : Buffer.concat(this.#pieces, this.#size)
  }
}

/**
 * Returns the whole body. Throws Problem: too-large, invalid-json, invalid-request (the request is cut);
 * errors of `take`. By events: for a small body an iterator of pieces costs more than all other work.
 */
export function receive(request: IncomingMessage, asked: Receive): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const gathered = new Gathered(asked)
  const fail = (error: unknown): void => {
    leave()
    reject(error) // the rest is read and dropped by `drain`
  }
  const add = (piece: Buffer): void => {
    try {
      gathered.add(piece)
    } catch (error) {
      fail(error)
    }
  }
  const done = (): void => {
    leave()
    resolve(gathered.whole())
  }
  const inflating = asked.gzip ? new Inflating(request, asked.most, { add, done, fail }) : undefined
  // Not `request.complete`: where the client resets, the last piece of a paused request never comes out.
  let ended = false
  const onEnd = (): void => {
    ended = true
    asked.arrived()
    if (inflating) inflating.end()
    else done()
  }
  const onBroken = (): void => {
    if (!ended) fail(invalid('the body ended before its end', 'the whole body'))
  }
  const onData = inflating ? (piece: Buffer) => inflating.add(piece) : add
  const before = whenCut(request, fail)
  const leave = (): void => {
    request.off('data', onData).off('end', onEnd).off('error', onBroken).off('close', onBroken)
    inflating?.leave()
    whenCut(request, before)
  }
  if (request.destroyed) onBroken()
  else request.on('end', onEnd).on('error', onBroken).on('close', onBroken).on('data', onData)
  return promise
}

type Inflated = {
  readonly add: (piece: Buffer) => void
  readonly done: () => void
  readonly fail: (error: Error) => void
}

class Inflating {
  readonly #request: IncomingMessage
  readonly #most: number
  readonly #inflated: Inflated
  readonly #blocks = new Blocks((block) => this.#write(block))
  #inflater: Gunzip | undefined
  #ended = false
  #left = false
  #sent = 0

  constructor(request: IncomingMessage, most: number, inflated: Inflated) {
    this.#request = request
    this.#most = most
    this.#inflated = inflated
  }

  add(piece: Buffer): void {
    this.#sent += piece.length
    if (this.#sent > this.#most) this.#inflated.fail(tooLarge(this.#most))
    else this.#blocks.add(piece)
  }

  end(): void {
    this.#ended = true
    this.#blocks.end()
    this.#started().end()
  }

  leave(): void {
    this.#left = true
    this.#inflater?.destroy()
  }

  #write(block: Buffer): void {
    if (!this.#started().write(block)) this.#request.pause()
  }

  /** Not before the first block: an inflater takes 50 KB. */
  #started(): Gunzip {
    const { add, done, fail } = this.#inflated
    this.#inflater ??= createGunzip({ chunkSize: INFLATED_BYTES })
      .on('data', (piece: Buffer) => {
        if (!this.#left) add(piece)
      })
      .on('drain', () => this.#request.resume())
      .on('error', () => {
        if (!this.#left) fail(invalid('the body is not valid gzip', 'gzip'))
      })
      .on('end', () => {
        if (this.#isWhole()) done()
        else fail(invalid('bytes stand behind the gzip data', 'gzip'))
      })
    return this.#inflater
  }

  /** A zero byte behind the data ends the output of zlib early, as padding, whatever follows. */
  #isWhole(): boolean {
    return this.#ended && this.#inflater?.bytesWritten === this.#sent
  }
}

export function tooLarge(most: number): Problem {
  return new Problem('too-large', `the body is larger than ${most} bytes`)
}

export function invalid(detail: string, expected: string): Problem {
  return new Problem('invalid-json', detail, { path: '', expected })
}
