// The command line as a child process: commands that end, and nodes.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Config } from '../src/node/config.ts'
import { until, withDeadline } from '../src/waiting.ts'
import { memoryOf, track } from './child.ts'
import type { NodeStatus } from './cluster.ts'
import type { Probed } from './probe.ts'
import { apiKey, getJson } from './vault.ts'

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const PROBE = new URL('./probe.ts', import.meta.url).href
const POLL_MS = 50
const STOP_MS = 60_000

export type Ended = { readonly code: number | string; readonly said: string; readonly seconds: number }

/** Runs a command of the command line to its end, and kills it `within` so many milliseconds. */
export async function coffer(args: readonly string[], within: number): Promise<Ended> {
  const started = performance.now()
  const { ended, kill } = run([MAIN, ...args])
  const timer = setTimeout(kill, within)
  const { code, said } = await ended
  clearTimeout(timer)
  return { code, said, seconds: (performance.now() - started) / 1000 }
}

type Running = {
  readonly pid: number
  readonly ended: Promise<{ readonly code: number | string; readonly said: string }>
  term(): void
  kill(): void
}

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  track(child)
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-4000)
    })
  const ended = new Promise<{ code: number | string; said: string }>((resolve) => {
    child.once('close', (code, signal) => resolve({ code: signal ?? code ?? 0, said }))
  })
  return {
    pid: child.pid ?? 0,
    ended,
    term: () => void child.kill('SIGTERM'),
    kill: () => void child.kill('SIGKILL'),
  }
}

/** A node run by `coffer start`. */
export class StartedNode {
  readonly url: string
  readonly #key: string
  readonly #probe: string
  readonly #running: Running
  readonly #started = performance.now()
  #end: string | undefined

  /** `flags` are options of Node, as `--cpu-prof`. */
  constructor({ file, listen, owners }: Config, flags: readonly string[] = []) {
    this.url = `http://${listen.host}:${listen.port}`
    this.#key = apiKey(owners[0].id)
    this.#probe = `${file}.probe`
    this.#running = run([...flags, `--import=${PROBE}`, MAIN, 'start', '--config', file], {
      COFFER_BENCH_PROBE: this.#probe,
    })
    void this.#running.ended.then(({ code, said }) => {
      this.#end = `the node has ended with ${code}:\n${said}`
    })
  }

  get pid(): number {
    return this.#running.pid
  }

  /** Seconds from the start of the process until ready. Throws where the node is not ready in time. */
  async ready(within: number): Promise<number> {
    const done = (): Promise<boolean> => {
      if (this.#end !== undefined) throw new Error(this.#end)
      return getJson(`${this.url}/ready`, this.#key).then(
        () => true,
        () => false,
      )
    }
    if (!(await until(done, { every: POLL_MS, within })))
      throw new Error(`the node was not ready after ${Math.round(within / 1000)} s`)
    return (performance.now() - this.#started) / 1000
  }

  status(): Promise<NodeStatus> {
    return getJson(`${this.url}/status`, this.#key)
  }

  /** Waits until the replica has applied `revision`. */
  async applied(revision: number, within: number): Promise<void> {
    const done = async (): Promise<boolean> => (await this.status()).replica.revision >= revision
    if (!(await until(done, { every: POLL_MS, within })))
      throw new Error(`revision ${revision} was not applied after ${Math.round(within / 1000)} s`)
  }

  /** Tokens of the owner's epoch 1. */
  async tokens(owner: string): Promise<number> {
    const { epochs } = await getJson<{ epochs: readonly { readonly tokens: number }[] }>(
      `${this.url}/epochs`,
      apiKey(owner),
    )
    return epochs[0].tokens
  }

  get probed(): Probed {
    if (!existsSync(this.#probe)) throw new Error('the node has not listened')
    return JSON.parse(readFileSync(this.#probe, 'utf8'))
  }

  memory(): { rss: number; anon: number } {
    return memoryOf(this.pid)
  }

  /** Throws where the exit code is not 0. */
  async stop(): Promise<void> {
    this.#running.term()
    const late = (): Error => {
      this.#running.kill()
      return new Error('the node did not stop')
    }
    const { code, said } = await withDeadline(this.#running.ended, STOP_MS, late)
    if (code !== 0) throw new Error(`the node has ended with ${code}:\n${said}`)
  }
}
