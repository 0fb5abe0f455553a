// One request to a node, timed as the contract counts: from its last byte to the whole answer.
import { Agent, request } from 'node:http'

export type TimedAnswer = {
  readonly status: number
  readonly json: Readonly<Record<string, unknown>>
  /** Milliseconds from the last byte of the request. */
  readonly ms: number
}

export type Asked = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly owner: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** Of its own: connections of other tests are not waited for. */
export const newAgent = (): Agent => new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })

export function timedCall(url: string, agent: Agent, asked: Asked): Promise<TimedAnswer> {
  const { method, path, owner, body, headers } = asked
  const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  return new Promise((resolve, reject) => {
    let last = performance.now()
    const sent = request(
      new URL(path, url),
      {
        method,
        agent,
        headers: {
          authorization: `Bearer cof_${owner}`,
          ...(bytes ? { 'content-type': 'application/json', 'content-length': bytes.length } : {}),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const json = JSON.parse(Buffer.concat(chunks).toString('utf8'))
          resolve({ status: response.statusCode ?? 0, json, ms: performance.now() - last })
        })
      },
    )
    sent.on('error', reject)
    sent.on('finish', () => {
      last = performance.now()
    })
    sent.end(bytes)
  })
}
