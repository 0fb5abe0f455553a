// The etcd member that a node runs. It never outlives its node: a small shell holds a pipe from the node and kills the
// member when the pipe ends, whatever ended the node. It is started again when it ends by itself, and never empty once
// it has been part of a cluster: a member that forgot what it had promised can lose what the others count on.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { availableParallelism, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { assert } from '../assert.ts'
import type { MemberSettings, TlsFiles } from '../ledger/drivers.ts'
import type { Logger } from '../log.ts'
import { sleep } from '../waiting.ts'
import type { Config } from './config.ts'
import type { Etcd } from './etcd-binary.ts'

const GIB = 1024 ** 3
const FIRST_PAUSE_MS = 200
const LAST_PAUSE_MS = 5_000
/** Having run for so long it was well: the next pause is the first again. */
const WELL_MS = 30_000
/** A leader hands over in less, where there is anybody to take it: where all stop at once it would wait 7 s in vain. */
const STOP_MS = 2_000
const POLL_MS = 50

/**
 * Starts "$@", prints its process id, and waits for it. In a shell a background command has no stdin of its own, so
 * the pipe is moved to 3, where only the guard holds it: `read` returns when it ends, since nobody writes to it.
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

/**
 * What Go's runtime may take. Half of the cores: its node wants the others, and threads that wake each other up for nothing
 * cost both. Garbage is collected when the heap has grown to three times what is alive, instead of twice: less work for
 * each write; earlier where that would be more than half of the memory there is.
 */
function runtimeSettings(): Record<string, string> {
  const memory = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY)
  return {
    GOMAXPROCS: String(Math.max(1, Math.floor(availableParallelism() / 2))),
    GOGC: '200',
    GOMEMLIMIT: String(Math.floor(memory / 2)),
  }
}

export type MemberOptions = {
  readonly config: Config
  readonly etcd: Etcd
  readonly log: Logger
  /** Called with the member's process id, and with undefined when it has ended. */
  readonly changed?: (pid: number | undefined) => void
}

export type Member = {
  /** Why it does not run, if so. */
  readonly problem: string | undefined
  /** SIGTERM, and after 2 s SIGKILL, which loses nothing; resolves when it is gone. */
  stop(): Promise<void>
}

/** Runs the member of `config.ledger.member`, until it is stopped or this process ends. */
export function startMember(options: MemberOptions): Member {
  const member = new RunningMember(options)
  member.start()
  return member
}

/** The member's log, beside the pid files; etcd rotates it itself. */
export function memberLog({ file, node }: Pick<Config, 'file' | 'node'>): string {
  return join(dirname(file), 'run', `${node}.etcd.log`)
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
      // It has just ended.
    }
  }

  async #runForEver(): Promise<void> {
    const { config, log } = this.#options
    const { signal } = this.#stop
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; ) {
      await this.#directory.free(signal)
      const lost = this.#directory.lost
      if (lost !== undefined) {
        if (this.problem !== lost) log.warn({ node: config.node }, lost)
        this.problem = lost
        await sleep(LAST_PAUSE_MS, signal)
        continue
      }
      const started = performance.now()
      const how = await this.#run()
      if (signal.aborted) return
      if (performance.now() - started > WELL_MS) pause = FIRST_PAUSE_MS
      this.problem = `the member has ended with ${how}: see ${memberLog(config)}`
      log.warn({ node: config.node, again_in_ms: pause }, this.problem)
      await sleep(pause, signal)
      pause = Math.min(pause * 2, LAST_PAUSE_MS)
    }
  }

  /** Returns how it ended. */
  async #run(): Promise<string> {
    const { config, etcd, changed, log } = this.#options
    mkdirSync(dirname(memberLog(config)), { recursive: true, mode: 0o700 })
    const args = memberFlags(config, etcd.version, this.#directory.state)
    // A group of its own: a Ctrl-C in the terminal is the node's to judge.
    const shell = spawn('/bin/sh', ['-c', GUARD, 'coffer-member', etcd.path, ...args], {
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
      // Nothing of the environment but what a program needs: an ETCD_… variable would be one more configuration.
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...runtimeSettings() },
    })
    shell.stdin.on('error', () => undefined) // nothing is written to it
    const watching = this.#directory.remember(this.#stop.signal)
    try {
      this.#pid = await pidOf(shell)
      if (this.#stop.signal.aborted) this.#kill('SIGTERM')
      this.problem = undefined
      changed?.(this.#pid)
      log.info({ pid: this.#pid, version: etcd.version }, 'the member runs')
      return await ended(shell)
    } catch (error) {
      return error instanceof Error ? error.message : String(error) // no process at all: it is tried again
    } finally {
      this.#pid = undefined
      changed?.(undefined)
      shell.stdin.destroy()
      watching.abort()
    }
  }
}

/** The first line that the shell prints. */
function pidOf(shell: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = ''
    shell.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.includes('\n')) resolve(Number.parseInt(text, 10))
    })
    shell.once('error', reject)
    shell.once('exit', (code) => reject(new Error(`/bin/sh has ended with ${code}`)))
  })
}

function ended(shell: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    if (shell.exitCode !== null || shell.signalCode !== null)
      resolve(String(shell.signalCode ?? shell.exitCode))
    shell.once('exit', (code, signal) => resolve(String(signal ?? code)))
  })
}

/** What `<node>.member` says, beside the configuration: it must not go with the data that it speaks of. */
type Mark = { readonly token: string; readonly state: 'bootstrapped' | 'joining' }

/** The member's directory, and whether it may be started in it. */
export class MemberDirectory {
  readonly path: string
  readonly #mark: string
  readonly #member: MemberSettings
  readonly #node: string

  constructor(config: Config) {
    const { member } = memberOf(config)
    this.path = join(config.data, 'etcd')
    this.#mark = join(dirname(config.file), `${config.node}.member`)
    this.#member = member
    this.#node = config.node
  }

  get #used(): boolean {
    return existsSync(join(this.path, 'member', 'wal'))
  }

  #read(): Mark | undefined {
    if (!existsSync(this.#mark)) return undefined
    const mark: Mark = JSON.parse(readFileSync(this.#mark, 'utf8')) // ours; what is no JSON ends the node
    return mark.token === this.#member.token ? mark : undefined
  }

  #write(state: Mark['state']): void {
    const mark: Mark = { token: this.#member.token, state }
    writeFileSync(this.#mark, `${JSON.stringify(mark)}\n`, { mode: 0o600 })
  }

  /** Why it must not be started, undefined where it may. */
  get lost(): string | undefined {
    if (this.#used || this.#read()?.state !== 'bootstrapped') return undefined
    return (
      `the data of member ${this.#node} is gone from ${this.path}: it must not be started empty. ` +
      `Stop the node and run \`coffer member replace ${this.#node}\``
    )
  }

  /** `new` founds the cluster together with the others; `existing` goes on, or joins one that has added it. */
  get state(): 'new' | 'existing' {
    return this.#used || this.#read() !== undefined ? 'existing' : 'new'
  }

  /** The cluster has added it anew: the next start may be empty. */
  join(): void {
    this.#write('joining')
  }

  /** Marks it as part of the cluster once it has a log of its own. Ends with the signal. */
  remember(signal: AbortSignal): AbortController {
    const stop = new AbortController()
    const all = AbortSignal.any([signal, stop.signal])
    const look = async (): Promise<void> => {
      while (!all.aborted && !this.#used) await sleep(POLL_MS, all)
      if (this.#used && this.#read()?.state !== 'bootstrapped') this.#write('bootstrapped')
    }
    void look() // it only waits and writes a small file: a failure ends the process, as it should
    return stop
  }

  /** Resolves when no other process has the directory, as a member whose node was just killed. */
  async free(signal: AbortSignal): Promise<void> {
    const pidFile = join(dirname(this.#mark), 'run', `${this.#node}.etcd.pid`)
    while (!signal.aborted && existsSync(pidFile)) {
      const command = `/proc/${readFileSync(pidFile, 'utf8').trim()}/cmdline`
      if (!existsSync(command) || !readFileSync(command, 'utf8').includes(`--data-dir=${this.path}\0`)) return
      await sleep(POLL_MS, signal)
    }
  }
}

/** Throws where the configuration has no member: a fault of ours. */
function memberOf({ ledger }: Config): {
  readonly member: MemberSettings
  readonly tls: TlsFiles | undefined
} {
  const { member, tls } = ledger
  assert(member, 'the configuration has a member')
  return { member, tls }
}

function memberFlags(config: Config, version: string, state: 'new' | 'existing'): string[] {
  const { member, tls } = memberOf(config)
  const secured = (prefix: '' | 'peer-'): Record<string, string> =>
    tls
      ? {
          [`${prefix}cert-file`]: tls.cert,
          [`${prefix}key-file`]: tls.key,
          [`${prefix}trusted-ca-file`]: tls.ca,
          [`${prefix}client-cert-auth`]: 'true',
        }
      : {}
  const flags: Record<string, string | number> = {
    name: config.node,
    'data-dir': join(config.data, 'etcd'),
    'listen-client-urls': listenUrl(member.client),
    'advertise-client-urls': member.client,
    'listen-peer-urls': listenUrl(member.peer),
    'initial-advertise-peer-urls': member.peer,
    'initial-cluster': Object.entries(member.cluster)
      .map(([name, peer]) => `${name}=${peer}`)
      .join(','),
    'initial-cluster-token': member.token,
    'initial-cluster-state': state,
    ...secured(''),
    ...secured('peer-'),
    // Writes are up to 1 MiB and stay in memory until the next snapshot: the default of 10,000 would be gigabytes.
    'snapshot-count': 2000,
    'quota-backend-bytes': 8 * GIB,
    'max-txn-ops': 4096,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '1h',
    'log-level': 'warn',
    'log-outputs': memberLog(config),
    'enable-log-rotation': 'true',
    'log-rotation-config-json': '{"maxsize":16,"maxbackups":2}',
    ...ofRelease(version),
  }
  return Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
}

/** What 3.5 calls experimental. */
function ofRelease(version: string): Record<string, string | number> {
  if (version.startsWith('3.5.')) {
    return {
      'experimental-snapshot-catchup-entries': 1000,
      'experimental-initial-corrupt-check': 'true',
      'experimental-compact-hash-check-enabled': 'true',
    }
  }
  return {
    'snapshot-catchup-entries': 1000,
    'feature-gates': 'InitialCorruptCheck=true,CompactHashCheck=true',
  }
}

/** etcd listens on addresses only: where others use a name, on all of them. */
function listenUrl(origin: string): string {
  const url = new URL(origin)
  if (isIP(url.hostname.replace(/^\[|\]$/g, '')) === 0) url.hostname = '0.0.0.0'
  return url.origin
}
