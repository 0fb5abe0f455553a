// A vault of one node in a temporary directory, run as a child process.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { systemClock } from '../src/clock.ts'
import { Keyring } from '../src/crypto/keyring.ts'
import { hashKey } from '../src/http/auth.ts'
import { sleep } from '../src/waiting.ts'
import { type Child, cpuSeconds, memoryOf, startChild } from './child.ts'

export const apiKey = (owner: string): string => `cof_of-${owner}`

export class Vault {
  readonly #dir: string
  readonly #owners: readonly string[]
  readonly #flags: readonly string[]
  #child: Child | undefined

  /** `flags` are options of Node, as `--cpu-prof`. */
  constructor(dir: string, owners: readonly string[], flags: readonly string[] = []) {
    this.#dir = dir
    this.#owners = owners
    this.#flags = flags
    mkdirSync(dir, { mode: 0o700 })
    writeFileSync(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize(), { mode: 0o600 })
    writeFileSync(join(dir, 'n1.yaml'), configText(owners))
  }

  get url(): string {
    return this.#running.url
  }

  get pid(): number {
    return this.#running.pid
  }

  get #running(): Child {
    if (!this.#child) throw new Error('the vault is not running')
    return this.#child
  }

  /** Returns the time until ready, in milliseconds. */
  async start(): Promise<number> {
    this.#child = await startChild('./node.ts', [join(this.#dir, 'n1.yaml')], { flags: this.#flags })
    return this.#child.readyMs
  }

  async stop(): Promise<void> {
    const child = this.#running
    this.#child = undefined
    await child.stop()
  }

  /** SIGKILL, at once. */
  async kill(): Promise<void> {
    const child = this.#running
    this.#child = undefined
    await child.kill()
  }

  /** Stops, ends all that it holds. */
  async remove(): Promise<void> {
    if (this.#child) await this.stop()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  cpuSeconds(): number {
    return cpuSeconds(this.#running.pid)
  }

  memory(): { rss: number; anon: number } {
    return memoryOf(this.#running.pid)
  }

  disk(): { ledger: number; replica: number } {
    const data = join(this.#dir, 'n1')
    return { ledger: diskBytes(join(data, 'ledger')), replica: diskBytes(join(data, 'replica')) }
  }

  /** While stopped: the next start has to read all pages. Throws where there is no checkpoint to delete. */
  deleteCheckpoint(): void {
    const replica = join(this.#dir, 'n1', 'replica')
    const names = readdirSync(replica).filter((name) => name.startsWith('checkpoint-'))
    if (names.length === 0) throw new Error('the node left no checkpoint behind')
    for (const name of names) rmSync(join(replica, name))
  }

  /** While stopped: the next start has to build the replica from the ledger. */
  deleteReplica(): void {
    rmSync(join(this.#dir, 'n1', 'replica'), { recursive: true })
  }

  /**
   * Waits until the replica has applied every acknowledged commit. Returns the time taken, in milliseconds.
   */
  async settle(): Promise<number> {
    const started = performance.now()
    for (;;) {
      const status = await getJson<{ replica: { lag: number } }>(
        `${this.url}/status`,
        apiKey(this.#owners[0]),
      )
      if (status.replica.lag === 0) return performance.now() - started
      await sleep(20)
    }
  }
}

function configText(owners: readonly string[]): string {
  const lines = ['node: n1', 'listen: 127.0.0.1:0', 'data: ./n1', 'keyring: ./keyring.json', 'owners:']
  for (const owner of owners) {
    lines.push(`  - id: ${owner}`, `    keys: [{ id: k1, sha256: ${hashKey(apiKey(owner))} }]`)
  }
  lines.push('ledger: { kind: embedded }')
  return `${lines.join('\n')}\n`
}

/** The answer, in the caller's type. Throws where the status is not 200. */
export function getJson<T>(url: string, key: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = request(url, { headers: { authorization: `Bearer ${key}` }, agent: false }, (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (chunk: string) => {
        text += chunk
      })
      answer.on('error', reject)
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve(JSON.parse(text))
        else reject(new Error(`${url}: ${answer.statusCode} ${text}`))
      })
    })
    call.on('error', reject).end()
  })
}

function diskBytes(dir: string): number {
  let bytes = 0
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    const stat = statSync(join(dir, name))
    if (stat.isFile()) bytes += stat.blocks * 512
  }
  return bytes
}
