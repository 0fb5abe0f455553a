// The etcd member of a node, supervised. The member never outlives the node: a small shell holds a pipe from
// the node and kills the member when the pipe ends, however the node has ended. A member that ends by itself
// is started again.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Logger } from '../log.ts'
import { sleep } from '../waiting.ts'
import type { Config } from './config.ts'
import type { Etcd } from './etcd-binary.ts'
import { MemberDirectory, memberLog } from './member-directory.ts'
import { memberEnvironment, memberFlags } from './member-flags.ts'

/** Pauses before a restart: doubled from the first to the last. */
const FIRST_PAUSE_MS = 200
const LAST_PAUSE_MS = 5_000
/** A run longer than this resets the pause. */
const STABLE_MS = 30_000
/**
 * A leader hands over in less. Where all members stop at once, a leader waits for a successor for 7 s in
 * vain.
 */
const STOP_MS = 2_000

/**
 * Starts "$@", prints the process id, and waits. A background command of a shell has no stdin of its own, so
 * the pipe is moved to descriptor 3, held by the guard alone. Nobody writes to the pipe: `read` returns when
 * the pipe ends.
 */
const GUARD = `exec 3<&0 </dev/null
"$@" 3<&- &
member=$!
echo "$member"
(read -r _ <&3; kill -KILL "$member") &
guard=$!
exec 3<&-
wait "$member"
status=$?
kill "$guard" 2>/dev/null
exit "$status"`

type MemberOptions = {
  readonly config: Config
  readonly etcd: Etcd
  readonly log: Logger
  /** Called with the member's process id, and with undefined when the member has ended. */
  readonly changed?: (pid: number | undefined) => void
}

export type Member = {
  /** Why the member does not run; undefined while the member runs. */
  readonly problem: string | undefined
  /** SIGTERM, and after 2 s SIGKILL, which loses nothing; resolves when the member is gone. */
  stop(): Promise<void>
}

/** Runs the member of `config.ledger.member`, until `stop` is called or this process ends. */
export function startMember(options: MemberOptions): Member {
  const member = new RunningMember(options)
  member.start()
  return member
}

class RunningMember implements Member {
  problem: string | undefined = 'the member is starting'
  readonly #options: MemberOptions
  readonly #directory: MemberDirectory
  readonly #stop = new AbortController()
  #pid: number | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(options: MemberOptions) {
    this.#options = options
    this.#directory = new MemberDirectory(options.config)
  }

  start(): void {
    const { log } = this.#options
    const { warning } = this.#directory
    if (warning !== undefined) log.warn({}, warning)
    this.#running = this.#runForEver()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#kill('SIGTERM')
    const timer = setTimeout(() => this.#kill('SIGKILL'), STOP_MS)
    await this.#running
    clearTimeout(timer)
  }

  #kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    if (this.#pid === undefined) return
    try {
      process.kill(this.#pid, signal)
    } catch {
      // The member has just ended.
    }
  }

  async #runForEver(): Promise<void> {
    const { config, log } = this.#options
    const { signal } = this.#stop
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; ) {
      await this.#directory.untilFree(signal)
      const { lost } = this.#directory
      if (lost !== undefined) {
        if (this.problem !== lost) log.warn({}, lost)
        this.problem = lost
        await sleep(LAST_PAUSE_MS, signal)
        continue
      }
      const started = performance.now()
      const how = await this.#run()
      if (signal.aborted) return
      if (performance.now() - started > STABLE_MS) pause = FIRST_PAUSE_MS
      this.problem = `the member has ended with ${how}: see ${memberLog(config)}`
      log.warn({ again_in_ms: pause }, this.problem)
      await sleep(pause, signal)
      pause = Math.min(pause * 2, LAST_PAUSE_MS)
    }
  }

  /** Returns the signal or exit code that ended the member, or why there was no process at all. */
  async #run(): Promise<string> {
    const { changed, log, etcd } = this.#options
    const ended = new AbortController()
    let shell: ChildProcess | undefined
    try {
      shell = this.#spawn()
      // Waits, and writes a small file: an error ends the process, since a member without its mark could
      // restart empty.
      void this.#directory.markBootstrapped(AbortSignal.any([this.#stop.signal, ended.signal]))
      this.#pid = await pidOf(shell)
      if (this.#stop.signal.aborted) this.#kill('SIGTERM')
      this.problem = undefined
      changed?.(this.#pid)
      log.info({ pid: this.#pid, version: etcd.version }, 'the member runs')
      return await endOf(shell)
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    } finally {
      this.#pid = undefined
      changed?.(undefined)
      shell?.stdin?.destroy()
      ended.abort()
    }
  }

  /** Throws errors of the system: where memory or descriptors are short, a child has no streams. */
  #spawn(): ChildProcess {
    const { config, etcd } = this.#options
    mkdirSync(dirname(memberLog(config)), { recursive: true, mode: 0o700 })
    const args = memberFlags(config, etcd.version, this.#directory.state)
    // A process group of its own: Ctrl-C in the terminal must reach the node alone.
    const shell: ChildProcess = spawn('/bin/sh', ['-c', GUARD, 'coffer-member', etcd.path, ...args], {
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
      env: memberEnvironment(),
    })
    shell.stdin?.on('error', () => undefined) // nothing is written to the pipe
    return shell
  }
}

/** The first line that the shell prints. Rejects where the shell cannot be started. */
function pidOf(shell: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = ''
    shell.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.includes('\n')) resolve(Number.parseInt(text, 10))
    })
    shell.on('error', reject)
    shell.once('exit', (code) => reject(new Error(`/bin/sh has ended with ${code}`)))
  })
}

/** The signal or exit code that ended the shell. */
function endOf(shell: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    if (shell.exitCode !== null || shell.signalCode !== null)
      resolve(String(shell.signalCode ?? shell.exitCode))
    shell.once('exit', (code, signal) => resolve(String(signal ?? code)))
  })
}
