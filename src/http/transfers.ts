// Bodies and answers on their way. A body or an answer without movement for 30 s, or not through after 5
// minutes, is cut: a client who neither sends nor reads holds no memory and no connection for long.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../clock.ts'

const STILL_MS = 30_000
const WHOLE_MS = 5 * 60_000
const LOOK_MS = 1000

type Transfer = {
  readonly socket: Socket
  readonly kind: 'body' | 'answer'
  /** Called once, when the transfer ends in any way. */
  readonly ended: () => void
  /** As of the looks so far; monotonic time. Undefined before the first look. */
  looked: { readonly began: number; moved: number; at: number } | undefined
}

/** A single timer looks at all transfers: a request costs an entry in a set, and no timer. */
export class Transfers {
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #under = new Set<Transfer>()
  readonly #timer: NodeJS.Timeout

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }

  /** A body begins to arrive. Returns the function to call at the end. */
  body({ socket }: IncomingMessage): () => void {
    const transfer: Transfer = { socket, kind: 'body', ended: () => undefined, looked: undefined }
    this.#under.add(transfer)
    return () => this.#end(transfer)
  }

  /** An answer is about to be sent. `ended` is called when the answer is flushed, or its connection gone. */
  answer(response: ServerResponse, ended: () => void): void {
    const { socket } = response.req
    if (response.closed || socket.destroyed) {
      ended()
      return
    }
    const transfer: Transfer = { socket, kind: 'answer', ended, looked: undefined }
    this.#under.add(transfer)
    response.once('close', () => this.#end(transfer))
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #end(transfer: Transfer): void {
    if (this.#under.delete(transfer)) transfer.ended()
  }

  #look(): void {
    const now = this.#clock.monotonic()
    for (const transfer of this.#under) {
      const { socket, kind } = transfer
      // The answer to a pipelined request never closes where its connection goes before its turn.
      if (socket.destroyed) {
        this.#end(transfer)
        continue
      }
      const at = kind === 'body' ? socket.bytesRead : flushedBytes(socket)
      transfer.looked ??= { began: now, moved: now, at }
      const { looked } = transfer
      if (looked.at !== at) Object.assign(looked, { at, moved: now })
      if (now - looked.moved >= STILL_MS || now - looked.began >= WHOLE_MS) socket.destroy()
    }
  }
}

/** Ends a connection behind its last bytes, or cuts the connection where no byte moves for `stillMs`. */
export function endSoon(socket: Socket, stillMs = STILL_MS): void {
  let [at, moved] = [flushedBytes(socket), performance.now()]
  const timer = setInterval(() => {
    const now = performance.now()
    if (flushedBytes(socket) !== at) [at, moved] = [flushedBytes(socket), now]
    else if (now - moved >= stillMs) socket.destroy()
  }, LOOK_MS).unref()
  socket.once('close', () => clearInterval(timer))
  socket.destroySoon()
}

type Handle = { readonly writeQueueSize?: number; readonly _parent?: Handle | null }

/**
 * Changes whenever the system takes bytes over. Node counts a buffer as written when the buffer is handed to
 * libuv, whose queue only the handle shows; of TLS the handle below, which has the encrypted bytes.
 */
function flushedBytes(socket: Socket & { readonly _handle?: Handle | null }): number {
  const handle = socket._handle?._parent ?? socket._handle
  return socket.bytesWritten - socket.writableLength - (handle?.writeQueueSize ?? 0)
}
