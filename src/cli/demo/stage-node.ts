// A node of a demo: `coffer start` in a child process, with its etcd member where the vault has three nodes.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { assert } from '../../assert.ts'
import { OperatorError } from '../../errors.ts'
import { type Config, readConfig } from '../../node/config.ts'
import { until } from '../../waiting.ts'
import { NO_DEBUGGER } from '../hardened.ts'
import { runningMember } from '../local/node-process.ts'

const START_MS = 45_000
const STOP_MS = 10_000
/** A member ends some 12 ms after its node. */
const MEMBER_MS = 5_000

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url),
)

/** The arguments of node for a command of Coffer, as this process runs. */
export function commandLine(args: readonly string[]): string[] {
  return [...process.execArgv, MAIN, ...args]
}

export class StageNode {
  readonly name: string
  readonly #config: Config
  #child: ChildProcess | undefined
  #url = ''

  constructor(file: string) {
    this.#config = readConfig(file)
    this.name = this.#config.node
  }

  /** `http://host:port`, known from the first start on. */
  get url(): string {
    return this.#url
  }

  get runs(): boolean {
    const child = this.#child
    return child !== undefined && child.exitCode === null && child.signalCode === null
  }

  /** Starts the node, and resolves when the node is ready. Throws OperatorError. */
  async start(): Promise<void> {
    assert(!this.runs, 'a node is started once')
    const args = commandLine(['start', '--config', this.#config.file])
    const child = spawn(process.execPath, [NO_DEBUGGER, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS)
    let last = ''
    let isReady = false
    for await (const line of createInterface({ input: child.stderr })) {
      last = line
      const { msg, url } = fieldsOf(line)
      if (msg !== 'ready' || typeof url !== 'string') continue
      this.#url = url
      isReady = true
      break
    }
    clearTimeout(timer)
    if (!isReady) throw new OperatorError(`node ${this.name} has not started: ${last}`)
    child.stderr.resume() // the rest of the log is dropped; a full pipe would block the node
  }

  /** The process ids of node and member; undefined: none runs. */
  get pids(): { readonly node: number | undefined; readonly member: number | undefined } {
    return { node: this.runs ? this.#child?.pid : undefined, member: runningMember(this.#config) }
  }

  /** SIGTERM. Returns the exit code, 0 where no process runs; null: the process had to be killed. */
  async stop(): Promise<number | null> {
    const child = this.#child
    if (!child || !this.runs) return 0
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    await ended
    clearTimeout(timer)
    await this.#memberGone()
    return child.exitCode
  }

  /** SIGKILL of the node's process alone, as in a crash. Resolves when node and member are gone. */
  async kill(): Promise<void> {
    const child = this.#child
    assert(child && this.runs, 'a node that is killed runs')
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    await this.#memberGone()
  }

  /** Kills node and member at once, without waiting. */
  killNow(): void {
    if (this.runs) this.#child?.kill('SIGKILL')
    const member = runningMember(this.#config)
    if (member === undefined) return
    try {
      process.kill(member, 'SIGKILL')
    } catch {
      // The member has just ended.
    }
  }

  async #memberGone(): Promise<void> {
    const gone = await until(() => runningMember(this.#config) === undefined, {
      every: 10,
      within: MEMBER_MS,
    })
    if (!gone) throw new OperatorError(`the member of ${this.name} has not ended with its node`)
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
