// The connections of all listeners of a node, counted together. A connection beyond the limit is closed at
// once: each takes a descriptor, and the node needs descriptors for itself.
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { assert } from '../assert.ts'
import type { Logger } from '../log.ts'

/** The pause between two warnings. */
const WARN_MS = 1000

export class Connections {
  readonly #most: number
  readonly #log: Logger
  /** Open connections of each listener. node:http forgets those with CONNECT. */
  readonly #listeners = new Map<Server, Set<Socket>>()
  #open = 0
  #refused = 0
  /** Monotonic time of the last warning. */
  #warnedAt = Number.NEGATIVE_INFINITY

  /** `most`: connections at once; Infinity for no limit. */
  constructor(most: number, log: Logger) {
    assert(most > 0, 'a node takes connections')
    this.#most = most
    this.#log = log
  }

  get open(): number {
    return this.#open
  }

  /** Since the start. */
  get refused(): number {
    return this.#refused
  }

  watch(server: Server): void {
    const own = new Set<Socket>()
    this.#listeners.set(server, own)
    server.on('connection', (socket: Socket) => {
      own.add(socket)
      this.#change(1)
      socket.once('close', () => {
        own.delete(socket)
        this.#change(-1)
      })
    })
    server.on('drop', () => this.#refuse())
    this.#share()
  }

  /** Cuts every connection of the listener. */
  cut(server: Server): void {
    for (const socket of this.#listeners.get(server) ?? []) socket.destroy()
  }

  #change(by: 1 | -1): void {
    this.#open += by
    this.#share()
  }

  /** Each listener may have its own connections, and all that are left. */
  #share(): void {
    const left = Math.max(0, this.#most - this.#open)
    for (const [server, { size }] of this.#listeners) server.maxConnections = size + left
  }

  #refuse(): void {
    this.#refused++
    const now = performance.now()
    if (now - this.#warnedAt < WARN_MS) return
    this.#warnedAt = now
    this.#log.warn(
      { open: this.#open, refused: this.#refused },
      'connections are refused: end idle connections, or raise the limit of open files (ulimit -n)',
    )
  }
}
