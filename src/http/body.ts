// Reading a request's body: media type, encoding, limits, UTF-8. The bytes come out whole; nothing is parsed
// here.
import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { Problem, type Slug } from '../errors.ts'
import type { Share } from './bytes-in-work.ts'
import { invalid, receive, tooLarge } from './receive.ts'
import type { Transfers } from './transfers.ts'

const JSON_TYPE = /^application\/json *(; *charset *= *("utf-8"|utf-8) *)?$/i

const DRAIN_BYTES = 64 * 1024 * 1024

/** Faults told at once: there is no room, or the form of HTTP is broken. */
const AT_ONCE: readonly Slug[] = ['overloaded', 'invalid-request']

/** A body that is whole: its bytes, the deadline of its request, and the caller as judged then. */
type Whole<Caller> = { readonly bytes: Uint8Array; readonly deadline: Deadline; readonly caller: Caller }

type Bodies<Caller> = {
  readonly limits: { readonly body_bytes: number }
  /** Makes the deadline of a request whose last byte has arrived. */
  readonly deadline: () => Deadline
  /**
   * Called once a body is whole; returns the caller. Throws Problem where the key of the caller has lost the
   * right.
   */
  readonly judge: (request: IncomingMessage) => Caller
  readonly transfers: Pick<Transfers, 'body'>
}

export class BodyReader<Caller> {
  readonly #deadline: () => Deadline
  readonly #bodyBytes: number
  readonly #judge: (request: IncomingMessage) => Caller
  readonly #transfers: Pick<Transfers, 'body'>

  constructor({ limits, deadline, judge, transfers }: Bodies<Caller>) {
    this.#deadline = deadline
    this.#judge = judge
    this.#bodyBytes = limits.body_bytes
    this.#transfers = transfers
  }

  /**
   * Returns the body, whose bytes are counted in `share`. Throws Problem: unsupported-media-type, too-large,
   * overloaded, invalid-json, invalid-request (the request is cut); errors of `judge`.
   */
  async read(request: IncomingMessage, share: Share): Promise<Whole<Caller>> {
    const fault = headerFault(request.headers)
    if (fault) throw fault
    const { bytes, deadline } = await this.#receive(request, share)
    checkText(bytes)
    return { bytes, deadline, caller: this.#judge(request) }
  }

  /**
   * As `read`, where a fault of the body has to wait: returns the fault beside the body, which is empty where
   * the body cannot be read. The caller throws the fault in its turn. Throws Problem `overloaded`,
   * `invalid-request` (the request is cut); errors of `judge`.
   */
  async readWithFault(
    request: IncomingMessage,
    share: Share,
  ): Promise<Whole<Caller> & { readonly fault: Problem | undefined }> {
    let fault = headerFault(request.headers)
    let bytes: Uint8Array = new Uint8Array(0)
    let deadline: Deadline | undefined
    try {
      const received = await this.#receive(request, share)
      deadline = received.deadline
      bytes = received.bytes
      checkText(bytes)
    } catch (error) {
      if (!(error instanceof Problem) || AT_ONCE.includes(error.slug)) throw error
      fault ??= error
    }
    return { bytes, deadline: deadline ?? this.#deadline(), caller: this.#judge(request), fault }
  }

  async #receive(
    request: IncomingMessage,
    share: Share,
  ): Promise<{ readonly bytes: Buffer; readonly deadline: Deadline }> {
    const { headers } = request
    const most = this.#bodyBytes
    if (Number(headers['content-length'] ?? 0) > most) throw tooLarge(most)
    let deadline: Deadline | undefined
    const end = this.#transfers.body(request)
    const arrived = (): void => {
      deadline = this.#deadline()
      end()
    }
    try {
      const take = (bytes: number): void => share.takeBody(bytes)
      const bytes = await receive(request, { gzip: isGzip(headers), most, take, arrived })
      assert(deadline, 'a whole body has arrived')
      return { bytes, deadline }
    } finally {
      end()
    }
  }
}

/** The answered request of a socket whose body is still arriving. */
const answered = new WeakMap<Socket, IncomingMessage>()

/** A request is answered, and its body is still arriving. */
export function answeredEarly(request: IncomingMessage): void {
  const { socket } = request
  answered.set(socket, request)
  request.once('close', () => {
    if (answered.get(socket) === request) answered.delete(socket)
  })
}

/** Whether the body of a request already answered is still arriving. */
export function isAnswered(socket: Socket): boolean {
  return answered.get(socket)?.complete === false
}

/**
 * Reads a refused body to its end, and drops the bytes: many clients read the answer only after they have
 * sent everything. Beyond DRAIN_BYTES the connection is cut.
 */
export function drain(request: IncomingMessage): void {
  let size = 0
  answeredEarly(request)
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > DRAIN_BYTES) request.socket.destroy()
  })
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
