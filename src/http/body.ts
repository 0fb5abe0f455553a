// Reading a request's body: media type, encoding, limits, UTF-8. The bytes come out whole; nothing is parsed
// here.
import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { promisify } from 'node:util'
import { gunzip as gunzipCallback } from 'node:zlib'
import type { Deadline } from '../clock.ts'
import { Problem } from '../errors.ts'

const gunzip = promisify(gunzipCallback)
const JSON_TYPE = /^application\/json *(; *charset *= *("utf-8"|utf-8) *)?$/i

const DRAIN_BYTES = 64 * 1024 * 1024

/** A body that is whole: its bytes, the deadline of its request, and the caller as judged then. */
type Whole<Caller> = { readonly bytes: Uint8Array; readonly deadline: Deadline; readonly caller: Caller }

export class BodyReader<Caller> {
  readonly #deadline: () => Deadline
  readonly #bodyBytes: number
  readonly #inWorkBytes: number
  readonly #judge: (request: IncomingMessage) => Caller
  /** Bytes of bodies being received or worked on. */
  inWork = 0

  /**
   * `deadline` makes the deadline of a request whose last byte has arrived. `judge` is called once a body is
   * whole, and returns the caller. Throws Problem where the key of the caller may not do this any more.
   */
  constructor(
    limits: { readonly body_bytes: number; readonly bodies_in_work_bytes: number },
    deadline: () => Deadline,
    judge: (request: IncomingMessage) => Caller,
  ) {
    this.#deadline = deadline
    this.#judge = judge
    this.#bodyBytes = limits.body_bytes
    this.#inWorkBytes = limits.bodies_in_work_bytes
  }

  /**
   * Hands the body to `work` and counts its bytes as in work until the promise settles. Throws Problem:
   * unsupported-media-type, too-large, overloaded, invalid-json; errors of `judge`.
   */
  async with<T>(request: IncomingMessage, work: (whole: Whole<Caller>) => Promise<T>): Promise<T> {
    return this.#share(async (share) => {
      const bytes = await this.#read(request, share)
      return work({ bytes, deadline: share.deadline, caller: this.#judge(request) })
    })
  }

  /**
   * As `with`, where a fault of the body has to wait: `work` gets the fault beside as much of the body as
   * could be read, and throws the fault in its turn. Throws Problem `overloaded`, errors of `judge`.
   */
  async withFault<T>(
    request: IncomingMessage,
    work: (whole: Whole<Caller>, fault: Problem | undefined) => Promise<T>,
  ): Promise<T> {
    return this.#share(async (share) => {
      const { headers } = request
      let fault = headerFault(headers)
      let bytes: Uint8Array = new Uint8Array(0)
      try {
        this.#checkLength(headers)
        bytes = await this.#receive(request, share)
        if (isGzip(headers)) bytes = await this.#inflate(bytes, share)
        checkText(bytes)
      } catch (error) {
        if (!(error instanceof Problem) || error.slug === 'overloaded') throw error
        fault ??= error
      }
      return work({ bytes, deadline: share.deadline, caller: this.#judge(request) }, fault)
    })
  }

  async #share<T>(work: (share: Share) => Promise<T>): Promise<T> {
    const share = new Share(this, this.#deadline())
    try {
      return await work(share)
    } finally {
      share.release()
    }
  }

  async #read(request: IncomingMessage, share: Share): Promise<Uint8Array> {
    const { headers } = request
    const fault = headerFault(headers)
    if (fault) throw fault
    this.#checkLength(headers)
    const received = await this.#receive(request, share)
    const bytes = isGzip(headers) ? await this.#inflate(received, share) : received
    checkText(bytes)
    return bytes
  }

  #checkLength(headers: IncomingHttpHeaders): void {
    if (Number(headers['content-length'] ?? 0) > this.#bodyBytes) throw this.#tooLarge()
  }

  /** Throws Problem `overloaded` where too much would be in work. */
  take(bytes: number): void {
    if (this.inWork + bytes > this.#inWorkBytes) throw new Problem('overloaded', 'too many bytes are in work')
    this.inWork += bytes
  }

  /** By events: for a small body an iterator of chunks costs more than all other work. */
  #receive(request: IncomingMessage, share: Share): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const chunks: Buffer[] = []
    let size = 0
    const onData = (chunk: Buffer): void => {
      try {
        size += chunk.length
        if (size > this.#bodyBytes) throw this.#tooLarge()
        share.take(chunk.length)
        chunks.push(chunk)
      } catch (error) {
        // `drain` reads a refused body to its end.
        leave()
        reject(error)
      }
    }
    const onEnd = (): void => {
      leave()
      share.deadline = this.#deadline()
      resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, size))
    }
    const onBroken = (): void => {
      leave()
      reject(invalid('the body ended before its end', 'the whole body'))
    }
    const leave = (): void => {
      request.off('data', onData).off('end', onEnd).off('error', onBroken).off('close', onBroken)
    }
    if (request.destroyed) onBroken()
    else request.on('end', onEnd).on('error', onBroken).on('close', onBroken).on('data', onData)
    return promise
  }

  async #inflate(body: Uint8Array, share: Share): Promise<Buffer> {
    // The inflated size is unknown: the share grows to the largest body allowed, and shrinks to the inflated
    // size afterwards. (Not more: the room for all bodies may be the room for a single body.)
    share.take(this.#bodyBytes - body.length)
    try {
      const inflated = await gunzip(body, { maxOutputLength: this.#bodyBytes })
      share.give(this.#bodyBytes - inflated.length)
      return inflated
    } catch (error) {
      if (error instanceof RangeError) throw this.#tooLarge()
      throw invalid('the body is not valid gzip', 'gzip')
    }
  }

  #tooLarge(): Problem {
    return new Problem('too-large', `the body is larger than ${this.#bodyBytes} bytes`)
  }
}

type Room = Pick<BodyReader<unknown>, 'take' | 'inWork'>

/** The part of the room for bodies that a request has taken, and the deadline of the request. */
class Share {
  /** From the judgement of the head, until the last byte has arrived. */
  deadline: Deadline
  readonly #reader: Room
  #bytes = 0

  constructor(reader: Room, deadline: Deadline) {
    this.#reader = reader
    this.deadline = deadline
  }

  take(bytes: number): void {
    this.#reader.take(bytes)
    this.#bytes += bytes
  }

  give(bytes: number): void {
    this.#reader.inWork -= bytes
    this.#bytes -= bytes
  }

  release(): void {
    this.give(this.#bytes)
  }
}

/** Sockets whose request has been answered, and whose body is still arriving. */
const draining = new WeakSet<Socket>()

export function isDraining(socket: Socket): boolean {
  return draining.has(socket)
}

/**
 * Reads a refused body to its end, and drops the bytes: many clients read the answer only after they have
 * sent everything. Beyond DRAIN_BYTES the connection is cut.
 */
export function drain(request: IncomingMessage): void {
  let size = 0
  draining.add(request.socket)
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > DRAIN_BYTES) request.socket.destroy()
  })
  request.on('end', () => draining.delete(request.socket))
  request.on('error', () => undefined) // the client has gone
  request.resume()
}

/** The fault of the media type or of the encoding. */
function headerFault(headers: IncomingHttpHeaders): Problem | undefined {
  const type = headers['content-type']
  if (type === undefined || !JSON_TYPE.test(type.trim()))
    return unsupported('content-type', 'the media type must be application/json')
  const encoding = headers['content-encoding']
  if (encoding === undefined || isGzip(headers) || /^ *(identity)? *$/i.test(encoding)) return undefined
  return unsupported('content-encoding', 'the content encoding must be gzip or none')
}

function isGzip(headers: IncomingHttpHeaders): boolean {
  const encoding = headers['content-encoding']
  return encoding !== undefined && /^ *(x-)?gzip *$/i.test(encoding)
}

function unsupported(path: string, detail: string): Problem {
  return new Problem('unsupported-media-type', detail, { path })
}

/** Throws Problem invalid-json. */
function checkText(body: Uint8Array): void {
  if (body.length === 0) throw invalid('the body is empty', 'a JSON object')
  if (!isUtf8(body)) throw invalid('the body is not UTF-8', 'UTF-8')
}

function invalid(detail: string, expected: string): Problem {
  return new Problem('invalid-json', detail, { path: '', expected })
}
