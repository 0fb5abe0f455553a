// Vaults in child processes, for tests that kill, damage and restart them.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { replaceFile } from '../../src/files.ts'
import { hashKey } from '../../src/http/auth.ts'

const START_MS = 30_000

export type Answer = { readonly status: number; readonly json: Record<string, unknown> }

/** A vault's folder: configuration, keyring and data. Owners `a` and `b` have the keys `cof_a` and `cof_b`. */
export class Vault {
  readonly dir: string
  readonly data: string
  /** New mappings that are worth a checkpoint; the node's own number where undefined. */
  checkpointEvery: number | undefined
  /** The limit of descriptors; that of the test where undefined. */
  descriptors: number | undefined
  log = ''
  #child: ChildProcess | undefined
  #agent = new Agent({ keepAlive: true })
  #url: URL

  /** `port`: known before the node is ready; 0 lets the system choose. `more`: owners beside `a` and `b`; `fields`: configured. */
  constructor(
    dir = mkdtempSync(join(tmpdir(), 'coffer-vault-')),
    {
      keyring = Keyring.create(systemClock).serialize(),
      port = 0,
      node = 'n1',
      ledger = '{ kind: embedded }',
      more = [] as readonly string[],
      fields = [] as readonly string[],
    } = {},
  ) {
    this.#url = new URL(`http://127.0.0.1:${port}`)
    this.dir = dir
    this.data = join(dir, 'n1')
    mkdirSync(dir, { recursive: true })
    replaceFile(join(dir, 'keyring.json'), keyring)
    const owners = ['a', 'b', ...more].map(
      (id) => `  - { id: ${id}, keys: [{ id: k1, sha256: ${hashKey(`cof_${id}`)} }] }`,
    )
    writeFileSync(
      join(dir, 'n1.yaml'),
      `node: ${node}\nlisten: 127.0.0.1:${port}\ndata: ./n1\nkeyring: ./keyring.json\nowners:\n${owners.join('\n')}\ntokenize: { fields: ${JSON.stringify(fields)} }\nledger: ${ledger}\n`,
    )
  }

  get url(): string {
    return this.#url.origin
  }

  get pid(): number {
    assert.ok(this.#child?.pid)
    return this.#child.pid
  }

  get port(): number {
    return Number(this.#url.port)
  }

  /** The exit code of the node that has ended last; null after a signal, and before its end. */
  get code(): number | null {
    return this.#child?.exitCode ?? null
  }

  /** Resolves when the node is ready; rejects with what it printed where it ends before. */
  async start(): Promise<void> {
    const program = [join(import.meta.dirname, 'main.ts'), join(this.dir, 'n1.yaml')]
    if (this.checkpointEvery !== undefined) program.push(String(this.checkpointEvery))
    const limit = this.descriptors === undefined ? '' : `ulimit -n ${this.descriptors} && `
    const command = ['-c', `${limit}exec "$@"`, 'sh', process.execPath, ...program]
    const child = spawn('sh', command, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    const ready = Promise.withResolvers<string>()
    child.stdout.setEncoding('utf8').on('data', (text: string) => ready.resolve(text.trim()))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.log = (this.log + text).slice(-1_000_000)
    })
    child.once('exit', (code, signal) =>
      ready.reject(new Error(`the node ended with ${code ?? signal}: ${this.log.slice(-3000)}`)),
    )
    const timer = setTimeout(() => ready.reject(new Error('the node did not become ready')), START_MS)
    try {
      this.#url = new URL(await ready.promise)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Starts it, and waits for nothing but that it listens: it needs a port that is known. */
  async begin(): Promise<void> {
    this.start().catch(() => undefined)
    for (const deadline = Date.now() + START_MS; Date.now() < deadline; ) {
      if (
        await this.call('/health').then(
          () => true,
          () => false,
        )
      )
        return
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    throw new Error('the node does not listen')
  }

  async text(path: string): Promise<string> {
    return (await fetch(new URL(path, this.#url))).text()
  }

  /** Sends the signal and waits for the end of the process. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await ended
    this.#agent.destroy()
    this.#agent = new Agent({ keepAlive: true })
  }

  async remove(): Promise<void> {
    await this.end('SIGKILL')
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** POST, or GET without a body. */
  call(
    path: string,
    body?: unknown,
    owner = 'a',
    method = body === undefined ? 'GET' : 'POST',
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
      const sent = request(
        {
          host: this.#url.hostname,
          port: this.#url.port,
          path,
          method,
          agent: this.#agent,
          headers: {
            authorization: `Bearer cof_${owner}`,
            ...(bytes ? { 'content-type': 'application/json', 'content-length': bytes.length } : {}),
          },
        },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            try {
              resolve({
                status: response.statusCode ?? 0,
                json: JSON.parse(Buffer.concat(chunks).toString('utf8')),
              })
            } catch (error) {
              reject(error)
            }
          })
        },
      )
      sent.on('error', reject)
      sent.end(bytes)
    })
  }

  async tokenize(values: readonly unknown[], owner = 'a'): Promise<{ epoch: number; tokens: string[] }> {
    const { status, json } = await this.call('/tokenize', { values }, owner)
    assert.equal(status, 200, JSON.stringify(json))
    return json as { epoch: number; tokens: string[] } // the contract's answer
  }

  async detokenize(
    tokens: readonly string[],
    owner = 'a',
  ): Promise<{ values: unknown[]; not_found: number[] }> {
    const { status, json } = await this.call('/detokenize', { tokens }, owner)
    assert.equal(status, 200, JSON.stringify(json))
    return json as { values: unknown[]; not_found: number[] } // the contract's answer
  }

  /** The digest when the replica has caught up with what was acknowledged. */
  async digest(): Promise<string> {
    for (const deadline = Date.now() + 10_000; Date.now() < deadline; ) {
      const { json } = await this.call('/status')
      const { lag, digest } = json.replica as { lag: number; digest: string } // the contract's answer
      if (lag === 0) return digest
    }
    throw new Error('the replica did not catch up')
  }
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address && typeof address === 'object')
  server.close()
  await once(server, 'close')
  return address.port
}
