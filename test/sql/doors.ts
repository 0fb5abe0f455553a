// Ways to a vault that a test closes, and a vault that refuses.
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** A way to a node that breaks when so many bytes have come from the node. */
export class Door implements AsyncDisposable {
  readonly url: string
  readonly #server: Server
  readonly #sockets: Set<Socket>

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server
    this.#sockets = sockets
    this.url = urlOf(server)
  }

  get isClosed(): boolean {
    return !this.#server.listening
  }

  static async open(node: string, bytes: number): Promise<Door> {
    const { hostname, port } = new URL(node)
    const sockets = new Set<Socket>()
    let left = bytes
    const server = createServer((caller) => {
      const inner = connect(Number(port), hostname)
      for (const socket of [caller, inner]) {
        sockets.add(socket)
        socket.on('error', () => undefined).once('close', () => sockets.delete(socket))
      }
      caller.once('close', () => inner.destroy())
      inner.once('close', () => caller.destroy())
      inner.on('data', (chunk: Buffer) => {
        left -= chunk.length
        if (left < 0) door.close()
      })
      caller.pipe(inner).pipe(caller)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const door = new Door(server, sockets)
    return door
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isClosed) this.close()
  }
}

/** A vault that answers every request with 403 `forbidden`, naming the right. */
export async function refusingVault(needs: string): Promise<{ readonly url: string; close(): void }> {
  const problem = {
    type: '/problems/forbidden',
    title: 'no',
    status: 403,
    detail: 'no',
    instance: 'r1',
    needs,
  }
  const server = createHttpServer((request, response) => {
    request.resume().once('end', () => {
      response.writeHead(403, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: urlOf(server),
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

function urlOf(server: Pick<Server, 'address'>): string {
  const { port } = server.address() as AddressInfo // of a server that listens on TCP
  return `http://127.0.0.1:${port}`
}
