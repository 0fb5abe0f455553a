// A TCP relay in front of an etcd or a node, that can swallow or delay what comes through without closing anything, close
// connections in the middle of it, and reset them.
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'

export class Relay {
  /** True: bytes are read and thrown away, in both directions. */
  silent = false
  /** Milliseconds by which bytes to the client are late. */
  delay = 0
  /** True: of the next bytes half comes through, and the connection is closed. */
  halved = false
  readonly url: string
  readonly #server: Server
  readonly #sockets: Set<Socket>

  private constructor(server: Server, url: string, sockets: Set<Socket>) {
    this.#server = server
    this.url = url
    this.#sockets = sockets
  }

  static async before(target: string): Promise<Relay> {
    const { hostname, port } = new URL(target)
    const sockets = new Set<Socket>()
    const server = createServer((near) => {
      const far = connect(Number(port), hostname)
      for (const [from, to] of [
        [near, far],
        [far, near],
      ]) {
        sockets.add(from)
        const late: Buffer[] = [] // in order, also where the delay ends meanwhile
        from.on('data', (bytes: Buffer) => {
          if (relay.silent) return
          if (relay.halved) {
            to.end(bytes.subarray(0, bytes.length >> 1))
            from.destroy()
            return
          }
          if (late.length === 0 && (relay.delay === 0 || from === near)) to.write(bytes)
          else {
            late.push(bytes)
            setTimeout(() => to.write(late.shift() ?? ''), relay.delay)
          }
        })
        from.on('error', () => to.destroy())
        from.on('close', () => {
          sockets.delete(from)
          to.destroy()
        })
      }
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('the relay has no port')
    const relay = new Relay(server, `http://127.0.0.1:${address.port}`, sockets)
    return relay
  }

  /** Resets all connections. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}
