// Where a demo plays: a temporary directory and a real node in a child process, both gone when it ends,
// however that is.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { Coffer } from '../../client/index.ts'
import { OperatorError } from '../../errors.ts'
import { initDirectory, type Made } from '../init.ts'

const START_MS = 10_000
const STOP_MS = 5_000
/** What a shell takes for an end by Ctrl-C. */
const INTERRUPTED = 130

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url),
)

export class Stage implements AsyncDisposable {
  /** The directory with the vault's files. */
  readonly dir: string
  readonly made: Made
  readonly #clients: Coffer[] = []
  #child: ChildProcess | undefined
  #url = ''

  /** Writes the vault's files; no node runs yet. */
  constructor(owners: readonly string[], fields: readonly string[]) {
    this.dir = mkdtempSync(join(tmpdir(), 'coffer-demo-'))
    process.once('exit', this.#removeAll)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, this.#interrupted)
    this.made = initDirectory({ dir: join(this.dir, 'vault'), owners, fields, port: 0 })
  }

  /**
   * Runs the command line with an owner's key. `output` is what it has printed, and then what it has told.
   */
  async coffer(
    owner: string,
    args: readonly string[],
    { cwd, input }: { readonly cwd: string; readonly input: string },
  ): Promise<{ readonly code: number | null; readonly output: string }> {
    const env = { ...process.env, COFFER_URL: this.#url, COFFER_KEY: this.made.owners[owner] }
    const child = spawn(process.execPath, [...process.execArgv, MAIN, ...args], { cwd, env })
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    child.stdin.on('error', () => undefined) // it need not read
    child.stdin.end(input)
    const [code] = await once(child, 'close')
    return { code, output: (await output).join('') }
  }

  /** Starts the node as `coffer start` does, and waits until it is ready. Throws OperatorError. */
  async start(): Promise<void> {
    const args = [...process.execArgv, MAIN, 'start', '--config', this.made.configs[0]]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS)
    let last = ''
    this.#url = ''
    for await (const line of createInterface({ input: child.stderr })) {
      last = line
      const { msg, url } = fieldsOf(line)
      if (msg !== 'ready' || typeof url !== 'string') continue
      this.#url = url
      break
    }
    clearTimeout(timer)
    if (this.#url === '') throw new OperatorError(`the node has not started: ${last}`)
    child.stderr.resume() // nobody reads what it logs from now on, and it must not wait for a reader
  }

  /** A client of the running node. */
  client(owner: string): Coffer {
    const coffer = new Coffer({ urls: this.#url, key: this.made.owners[owner] })
    this.#clients.push(coffer)
    return coffer
  }

  /** Ends the node as an operator does. Resolves with its exit code, null where it had to be killed. */
  async stop(): Promise<number | null> {
    const child = this.#child
    this.#child = undefined
    for (const coffer of this.#clients.splice(0)) coffer.close()
    if (!child) return 0
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(timer)
    }
    return child.exitCode
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    this.#removeAll()
    process.off('exit', this.#removeAll)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, this.#interrupted)
  }

  readonly #interrupted = (): void => {
    // The handler of `exit` does the rest, also where the story stands still in the midst of a call.
    process.exit(INTERRUPTED)
  }

  readonly #removeAll = (): void => {
    this.#child?.kill('SIGKILL')
    // The node may be writing until it is gone: then the directory is not empty at the first try.
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}

function fieldsOf(line: string): { msg?: unknown; url?: unknown } {
  try {
    const json: unknown = JSON.parse(line)
    return typeof json === 'object' && json !== null ? json : {}
  } catch {
    return {}
  }
}
