// A node of its own for a test: started in this process, in a folder that goes with it, with two owners.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { replaceFile } from '../../src/files.ts'
import { hashKey } from '../../src/http/auth.ts'
import { type Limits, parseConfig } from '../../src/node/config.ts'
import { type Node, startNode } from '../../src/server/start.ts'

/** API keys of the owners `clinic-a` (who calls, unless a test says otherwise) and `clinic-b`. */
export const KEY_A = 'cof_test-key-of-clinic-a'
export const KEY_B = 'cof_test-key-of-clinic-b'
export const OWNERS: Owners = { 'clinic-a': [KEY_A], 'clinic-b': [KEY_B] }

/** The contract's form of a token. */
export const TOKEN = /^tok_[1-9][0-9]{0,9}_[0-9a-hjkmnp-tv-z]{32}$/

/** The metric of how many bytes of bodies are being received or worked on. */
export const IN_WORK = 'coffer_bodies_in_work_bytes'

/** An API key with its limits, as the configuration has them. */
export type LimitedKey = {
  readonly key: string
  readonly may?: readonly string[]
  readonly prefix?: string
  readonly until?: string
  readonly resolve_per_day?: number
}
/** API keys by owner; a text is a key without limits. */
export type Owners = Readonly<Record<string, readonly (string | LimitedKey)[]>>

export type VaultOptions = {
  readonly fields?: readonly string[]
  readonly limits?: Partial<Limits>
  readonly owners?: Owners
  /** How old the text of /metrics may be; 0 by default. */
  readonly metricsAgeMs?: number
  readonly clock?: Clock
  /** As the configuration has them, by owner. */
  readonly quotas?: Readonly<Record<string, number | string>>
  /** Files of PEM. Over TLS `call` and what uses it do not work. */
  readonly tls?: { readonly cert: string; readonly key: string }
}

export class Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly bytes: Buffer

  constructor(status: number, headers: IncomingHttpHeaders, bytes: Buffer) {
    this.status = status
    this.headers = headers
    this.bytes = bytes
  }

  get text(): string {
    return this.bytes.toString('utf8')
  }

  /** The text parsed, `{}` where it is no JSON. */
  get json(): Readonly<Record<string, unknown>> {
    if (!/json/.test(this.headers['content-type'] ?? '') || this.bytes.length === 0) return {}
    const json: unknown = JSON.parse(this.text)
    assert.ok(typeof json === 'object' && json !== null, 'an answer is a JSON object')
    return json as Record<string, unknown> // just checked
  }
}

/** What can be sent: bytes and text as they are, anything else as JSON. */
export type Body = string | Buffer | Readonly<Record<string, unknown>> | undefined

/** A header `undefined` is not sent, though it would be by default; a list is a line each. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>

export class Vault {
  readonly dir: string
  readonly data: string
  readonly node: Node
  /** What the node has logged so far, a line each. */
  readonly logs: readonly string[]
  readonly #options: VaultOptions
  readonly #agent = new Agent({ keepAlive: true })

  private constructor(dir: string, node: Node, logs: readonly string[], options: VaultOptions) {
    this.dir = dir
    this.data = node.config.data
    this.node = node
    this.logs = logs
    this.#options = options
  }

  /** `dir`: the folder of an earlier vault that was stopped but not removed. */
  static async start(options: VaultOptions = {}, dir?: string): Promise<Vault> {
    const folder = dir ?? mkdtempSync(join(tmpdir(), 'coffer-http-'))
    const logs: string[] = []
    const log = (fields: object, message: string): void => {
      logs.push(JSON.stringify({ ...fields, message }))
    }
    try {
      if (!dir) replaceFile(join(folder, 'keyring.json'), Keyring.create(systemClock).serialize())
      const file = writeConfig(folder, options)
      const config = parseConfig(readFileSync(file, 'utf8'), file)
      const node = await startNode(config, {
        log: { error: log, warn: log, info: log },
        metricsAgeMs: options.metricsAgeMs ?? 0,
        ...(options.clock ? { clock: options.clock } : {}),
      })
      await node.ready
      return new Vault(folder, node, logs, options)
    } catch (error) {
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  async call(method: string, path: string, body?: Body, headers: Headers = {}): Promise<Answer> {
    const bytes = bytesOf(body)
    const sent: OutgoingHttpHeaders = { authorization: `Bearer ${KEY_A}` }
    if (bytes) Object.assign(sent, { 'content-type': 'application/json', 'content-length': bytes.length })
    for (const [name, value] of Object.entries(headers)) {
      if (value === undefined) delete sent[name]
      else sent[name] = value
    }
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const { hostname, port } = new URL(this.node.url)
    // The path as it is: what a URL would make of `..` and `#` is for the node to see.
    const outgoing = request({ hostname, port, path, method, headers: sent, agent: this.#agent })
    outgoing.on('error', reject) // says nothing once there is an answer, as when a body was refused unread
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
      incoming.on('error', reject)
      incoming.on('end', () => {
        resolve(new Answer(incoming.statusCode ?? 0, incoming.headers, Buffer.concat(chunks)))
      })
    })
    outgoing.end(bytes)
    return promise
  }

  post(path: string, body: Body, headers: Headers = {}): Promise<Answer> {
    return this.call('POST', path, body, headers)
  }

  get(path: string, headers: Headers = {}): Promise<Answer> {
    return this.call('GET', path, undefined, headers)
  }

  /** Sends text as it is, as no HTTP client would; gives what comes until the node closes the connection. */
  raw(text: string | Buffer): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const { hostname, port } = new URL(this.node.url)
    const socket = connect(Number(port), hostname, () => socket.write(text))
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(answer))
    socket.setTimeout(5000, () => socket.destroy(new Error('the node does not close the connection')))
    return promise
  }

  /** A POST of which `sent` bytes of the body have arrived when this returns. */
  async halfSent(
    path: string,
    body: string,
    sent: number,
    key = KEY_A,
  ): Promise<{ finish(): Promise<string>; leave(): void }> {
    const { hostname, port } = new URL(this.node.url)
    const bytes = Buffer.from(body)
    const before = await this.metric(IN_WORK)
    const socket = connect(Number(port), hostname)
    const closed = new Promise((resolve) => socket.on('close', resolve))
    let answer = ''
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
    })
    const head = [`POST ${path} HTTP/1.1`, 'Host: x', `Authorization: Bearer ${key}`, 'Connection: close']
    head.push('Content-Type: application/json', `Content-Length: ${bytes.length}`)
    socket.write(`${head.join('\r\n')}\r\n\r\n`)
    socket.write(bytes.subarray(0, sent))
    await until('the half is in work', async () => (await this.metric(IN_WORK)) === before + sent)
    return {
      finish: async () => {
        socket.write(bytes.subarray(sent))
        await closed
        return answer
      },
      leave: () => socket.destroy(),
    }
  }

  /** Tokens of the values, in the columnar form. */
  async tokens(values: readonly unknown[], key = KEY_A): Promise<string[]> {
    const answer = await this.post('/tokenize', { values }, bearer(key))
    assert.equal(answer.status, 200, answer.text)
    return answer.json.tokens as string[] // as the contract has it; tests of null look at the answer
  }

  async token(value: unknown, key = KEY_A): Promise<string> {
    return (await this.tokens([value], key))[0]
  }

  /** What the tokens stand for; null where one is not found. */
  async values(tokens: readonly unknown[], key = KEY_A): Promise<unknown[]> {
    const answer = await this.post('/detokenize', { tokens }, bearer(key))
    assert.equal(answer.status, 200, answer.text)
    return answer.json.values as unknown[] // as the contract has it
  }

  /** How many tokens the owner has, over all epochs. */
  async count(key = KEY_A): Promise<number> {
    const { json } = await this.get('/epochs', bearer(key))
    const epochs = json.epochs as { tokens: number }[] // as the contract has it
    return epochs.reduce((sum, epoch) => sum + epoch.tokens, 0)
  }

  /** A metric without labels. */
  async metric(name: string): Promise<number> {
    const line = (await this.get('/metrics')).text.split('\n').find((text) => text.startsWith(`${name} `))
    assert.ok(line, `no metric ${name}`)
    return Number(line.slice(name.length + 1))
  }

  /** Writes the owners into the configuration; `node.reload()` reads them. */
  setOwners(owners: Owners, quotas = this.#options.quotas): void {
    writeConfig(this.dir, { ...this.#options, owners, quotas: quotas ?? {} })
  }

  /** Stops the node; its folder stays. */
  async stop(): Promise<void> {
    await this.node.stop()
    this.#agent.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop()
    } finally {
      rmSync(this.dir, { recursive: true, force: true })
    }
  }
}

export function bearer(key: string): Record<string, string> {
  return { authorization: `Bearer ${key}` }
}

/** Polls until `done` says so; fails with `what` after `ms`. */
export async function until(what: string, done: () => boolean | Promise<boolean>, ms = 5000): Promise<void> {
  const deadline = performance.now() + ms
  while (!(await done())) {
    assert.ok(performance.now() < deadline, `not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function writeConfig(dir: string, options: VaultOptions): string {
  const owners = Object.entries(options.owners ?? OWNERS).map(([id, keys]) => ({
    id,
    ...(options.quotas?.[id] === undefined ? {} : { quota: options.quotas[id] }),
    keys: keys.map((each, i) => {
      const { key, ...limits } = typeof each === 'string' ? { key: each } : each
      return { id: `k${i + 1}`, sha256: hashKey(key), ...limits }
    }),
  }))
  const config = {
    node: 'n1',
    listen: '127.0.0.1:0',
    ...(options.tls ? { tls: options.tls } : {}),
    data: './n1',
    keyring: './keyring.json',
    owners,
    tokenize: { fields: options.fields ?? [] },
    limits: options.limits ?? {},
    ledger: { kind: 'embedded' },
  }
  const file = join(dir, 'n1.yaml')
  writeFileSync(file, JSON.stringify(config, null, 2)) // JSON is YAML
  return file
}

function bytesOf(body: Body): Buffer | undefined {
  if (body === undefined || Buffer.isBuffer(body)) return body
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body), 'utf8')
}
