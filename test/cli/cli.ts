// For tests of the command line: commands as children, nodes as children, and waiting with a deadline.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Coffer } from '../../src/client/index.ts'
import { sendSignal } from '../signals.ts'

export const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

// With a compile cache commands start in 0.1 s instead of 0.25 s.
const CACHE = mkdtempSync(join(tmpdir(), 'coffer-cache-'))
process.once('exit', () => rmSync(CACHE, { recursive: true, force: true }))

export type Result = { readonly code: number | null; readonly stdout: string; readonly stderr: string }
export type Options = {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** The input on stdin; default: none. */
  readonly input?: string | Uint8Array
  /** The time limit before SIGKILL; default: 30 s. */
  readonly ms?: number
  /** Another user for the child; only root can say so. */
  readonly user?: { readonly uid: number; readonly gid: number }
}

/** A child with the command line; variables of Coffer and of the test are not passed on. */
export function spawnCoffer(
  args: readonly string[],
  { cwd, env = {}, input, user }: Options = {},
): ChildProcess {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(COFFER_|NODE_TEST_CONTEXT|FORCE_COLOR)/.test(name),
  )
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(own), NODE_COMPILE_CACHE: CACHE, ...env },
    ...(cwd === undefined ? {} : { cwd }),
    ...user,
  })
  // A command may end before reading all of its input.
  child.stdin?.on('error', () => {}).end(input)
  return child
}

/** Runs a command to its end. */
export async function coffer(args: readonly string[], options: Options = {}): Promise<Result> {
  const child = spawnCoffer(args, options)
  const text = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (chunk: string) => {
      text[stream] += chunk
    })
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), options.ms ?? 30_000)
  const [code] = await once(child, 'close')
  clearTimeout(timer)
  return { code, ...text }
}

/** Runs a command that must succeed. Returns its stdout without the last line break. */
export async function fine(args: readonly string[], options: Options = {}): Promise<string> {
  const result = await coffer(args, options)
  assert.equal(result.code, 0, `${args.join(' ')}\n${result.stdout}\n${result.stderr}`)
  return result.stdout.trimEnd()
}

/** Runs a command that must end with `code`, with a message and without a stack. Returns all output. */
export async function refused(code: number, args: readonly string[], options: Options = {}): Promise<string> {
  const result = await coffer(args, options)
  const told = result.stdout + result.stderr
  assert.equal(result.code, code, `${args.join(' ')}\n${told}`)
  assert.match(result.stderr, /^coffer: /m)
  assert.doesNotMatch(told, /^ {4}at /m, 'a stack is for nobody')
  return told
}

export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  ms = 10_000,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + ms
  for (;;) {
    const found = await look()
    if (found) return found
    if (performance.now() > deadline) assert.fail(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** A directory, removed at the end of the test. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'coffer-cli-'))

  file(...names: string[]): string {
    return join(this.path, ...names)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }
}

/** Runs `coffer init` in `dir`. Returns the API keys by owner. */
export async function init(dir: string, ...args: string[]): Promise<Readonly<Record<string, string>>> {
  const made: { owners: Record<string, string> } = JSON.parse(await fine(['init', dir, '--json', ...args]))
  return made.owners
}

/** `coffer start`. */
export class NodeProcess implements AsyncDisposable {
  readonly child: ChildProcess
  readonly log: string[] = []
  url = ''

  private constructor(child: ChildProcess) {
    this.child = child
    const { stderr } = child
    assert.ok(stderr)
    createInterface({ input: stderr }).on('line', (line) => this.log.push(line))
    child.stdout?.resume()
  }

  /** Resolves when the node is ready. */
  static async start(config: string, ms = 10_000, options: Options = {}): Promise<NodeProcess> {
    const node = NodeProcess.begin(config, options)
    const look = (): string | undefined => {
      assert.equal(node.child.exitCode, null, node.log.join('\n'))
      return node.log.find((each) => each.includes('"msg":"ready"'))
    }
    try {
      node.url = JSON.parse(await until(`ready: ${config}`, look, ms)).url
    } catch (error) {
      await node[Symbol.asyncDispose]()
      throw error
    }
    return node
  }

  /** Starts the node, and does not wait until it is ready. */
  static begin(config: string, options: Options = {}): NodeProcess {
    return new NodeProcess(spawnCoffer(['start', '--config', config], options))
  }

  get pid(): number {
    assert.ok(this.child.pid !== undefined)
    return this.child.pid
  }

  /** How many lines of the log have the text. */
  told(text: string): number {
    return this.log.filter((line) => line.includes(text)).length
  }

  signal(signal: NodeJS.Signals): void {
    sendSignal(this.pid, signal)
  }

  /** The exit code; null where a signal has ended it. */
  async ended(): Promise<number | null> {
    await until('the end of the node', () => this.child.exitCode !== null || this.child.signalCode !== null)
    return this.child.exitCode
  }

  async stop(): Promise<number | null> {
    this.signal('SIGTERM')
    return this.ended()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    this.signal('SIGKILL')
    await this.ended()
  }
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  await new Promise((resolve) => server.close(resolve))
  return address.port
}

/** Zombies count as dead. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  if (!existsSync('/proc')) return true
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false // the process has just ended
  }
}

/**
 * A vault of one owner in `folder`, its node, and two ways to call the node. The caller ends node and client.
 */
export async function startVault(folder: Folder) {
  const { default: key } = await init(folder.file('v'), '--port', '0')
  const node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const env = { COFFER_URL: node.url, COFFER_KEY: key }
  return { node, env, client: new Coffer({ urls: node.url, key }) }
}
