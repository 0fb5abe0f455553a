// The stage of a demo: a temporary directory and a real node in a child process, both removed at the end,
// whether the demo ends by itself, by an error or by a signal.
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
import { initDirectory, type NewVault } from '../init.ts'

const START_MS = 10_000
const STOP_MS = 5_000
/** The exit code of a shell after Ctrl-C. */
const INTERRUPTED = 130

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url),
)

export class Stage implements AsyncDisposable {
  /** The directory with the vault's files. */
  readonly dir: string
  readonly vault: NewVault
  readonly #clients: Coffer[] = []
  #child: ChildProcess | undefined
  #url = ''

  /** Writes the vault's files; no node runs yet. */
  constructor(owners: readonly string[], fields: readonly string[]) {
    this.dir = mkdtempSync(join(tmpdir(), 'coffer-demo-'))
    process.once('exit', this.#removeAll)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, this.#interrupted)
    this.vault = initDirectory({ dir: join(this.dir, 'vault'), owners, fields, port: 0 })
  }

  /** Runs the command line with an owner's key. `output`: the text of stdout, then the text of stderr. */
  async coffer(
    owner: string,
    args: readonly string[],
    { cwd, input }: { readonly cwd: string; readonly input: string },
  ): Promise<{ readonly code: number | null; readonly output: string }> {
    const env = { ...process.env, COFFER_URL: this.#url, COFFER_KEY: this.vault.owners[owner] }
    const child = spawn(process.execPath, [...process.execArgv, MAIN, ...args], { cwd, env })
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    child.stdin.on('error', () => undefined) // a command may end without reading its input
    child.stdin.end(input)
    const [code] = await once(child, 'close')
    return { code, output: (await output).join('') }
  }

  /** Starts the node by `coffer start`, and waits until the node is ready. Throws OperatorError. */
  async start(): Promise<void> {
    const args = [...process.execArgv, MAIN, 'start', '--config', this.vault.configs[0]]
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
    child.stderr.resume() // the rest of the log is dropped; a full pipe would block the node
  }

  /** A client of the running node. */
  client(owner: string): Coffer {
    const coffer = new Coffer({ urls: this.#url, key: this.vault.owners[owner] })
    this.#clients.push(coffer)
    return coffer
  }

  /** Ends the node by SIGTERM. Returns its exit code; null: the node had to be killed. */
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
    // The handler of `exit` removes node and directory, even in the midst of a call.
    process.exit(INTERRUPTED)
  }

  readonly #removeAll = (): void => {
    this.#child?.kill('SIGKILL')
    // Until its end the node may write files: the first tries can find the directory not empty.
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
