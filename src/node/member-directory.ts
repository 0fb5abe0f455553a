// The directory of a node's etcd member, and whether the member may start there. A member that was part of
// the cluster never starts empty: Raft counts on what the member has promised, and an emptied member has
// forgotten its promises.
import { existsSync, lstatSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { assert } from '../assert.ts'
import { errorCode } from '../errors.ts'
import { replaceFile } from '../files.ts'
import { sleep } from '../waiting.ts'
import type { Config } from './config.ts'

const POLL_MS = 50

type NodeFiles = Pick<Config, 'file' | 'node'>

/** The process id of the member, in decimal. */
export function memberPidFile({ file, node }: NodeFiles): string {
  return join(dirname(file), 'run', `${node}.etcd.pid`)
}

/** The log of the member; etcd rotates the file itself. */
export function memberLog({ file, node }: NodeFiles): string {
  return join(dirname(file), 'run', `${node}.etcd.log`)
}

const STATES = ['bootstrapped', 'joining'] as const
type State = (typeof STATES)[number]

/**
 * The content of `<node>.member`. A mark of another cluster, `foreign`, counts as absent; a mark that cannot
 * be read counts as `bootstrapped`, since the other reading could start an emptied member.
 */
type Mark =
  | { readonly kind: 'absent' }
  | { readonly kind: 'foreign' }
  | { readonly kind: 'present'; readonly state: State }
  | { readonly kind: 'damaged'; readonly cause: string }

export class MemberDirectory {
  readonly path: string
  /** Beside the configuration: the mark must outlive the data. */
  readonly #markFile: string
  readonly #pidFile: string
  readonly #token: string
  readonly #node: string

  constructor(config: Config) {
    const { member } = config.ledger
    assert(member, 'the configuration has a member')
    this.path = join(config.data, 'etcd')
    this.#markFile = join(dirname(config.file), `${config.node}.member`)
    this.#pidFile = memberPidFile(config)
    this.#token = member.token
    this.#node = config.node
  }

  /** A warning about a mark that cannot be read; undefined where there is nothing to warn of. */
  get warning(): string | undefined {
    const mark = this.#readMark()
    if (mark.kind !== 'damaged') return undefined
    return (
      `${this.#markFile} cannot be read (${mark.cause}): ${this.#node} counts as part of the cluster. ` +
      'Let the node read the file, or remove the file while the member runs: the next start writes a new file'
    )
  }

  /** Why the member must not start; undefined where the member may start. */
  get lost(): string | undefined {
    if (this.#hasLog || !isBootstrapped(this.#readMark())) return undefined
    return (
      `the data of member ${this.#node} is gone from ${this.path}: it must not be started empty. ` +
      `Stop the node and run \`coffer member replace ${this.#node}\`. Where most members have lost their ` +
      'data, give all nodes another ledger.member.token, and restore a backup'
    )
  }

  /**
   * Why the member cannot found a new cluster: its data is of the cluster before `ledger.member.token` was
   * changed. undefined where there is no such data.
   */
  get foreign(): string | undefined {
    if (!this.#hasLog || this.#readMark().kind !== 'foreign') return undefined
    return (
      `${this.path} has the data of member ${this.#node} in another cluster, since ledger.member.token was ` +
      'changed: move the directory to another place'
    )
  }

  /**
   * `new` founds the cluster together with the others; `existing` goes on, or joins a cluster that has added
   * it.
   */
  get state(): 'new' | 'existing' {
    if (this.#hasLog) return 'existing'
    const { kind } = this.#readMark()
    return kind === 'absent' || kind === 'foreign' ? 'new' : 'existing'
  }

  /** Records that the cluster has added the member anew: the next start may be empty. Throws FileError. */
  markJoining(): void {
    this.#writeMark('joining')
  }

  /**
   * Waits until the member has written a log of its own, and records that the member is part of the cluster.
   * Resolves then, or when the signal aborts. Throws FileError.
   */
  async markBootstrapped(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#hasLog) await sleep(POLL_MS, signal)
    if (this.#hasLog && !isBootstrapped(this.#readMark())) this.#writeMark('bootstrapped')
  }

  /**
   * Resolves when no process runs on the directory: the member of a node that was just killed may still be
   * ending.
   */
  async untilFree(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#isInUse()) await sleep(POLL_MS, signal)
  }

  #isInUse(): boolean {
    const pid = readIfThere(this.#pidFile).trim()
    return pid !== '' && readIfThere(`/proc/${pid}/cmdline`).includes(`--data-dir=${this.path}\0`)
  }

  /** etcd has written its write-ahead log. */
  get #hasLog(): boolean {
    return existsSync(join(this.path, 'member', 'wal'))
  }

  #readMark(): Mark {
    let text: string
    try {
      text = readFileSync(this.#markFile, 'utf8')
    } catch (error) {
      // A link to a file that is gone says that there was a mark.
      const isAbsent =
        errorCode(error) === 'ENOENT' && lstatSync(this.#markFile, { throwIfNoEntry: false }) === undefined
      if (isAbsent) return { kind: 'absent' }
      return { kind: 'damaged', cause: errorCode(error) ?? String(error) }
    }
    const mark = parseMark(text)
    if (!mark) return { kind: 'damaged', cause: 'not the JSON of a mark' }
    return mark.token === this.#token ? { kind: 'present', state: mark.state } : { kind: 'foreign' }
  }

  #writeMark(state: State): void {
    replaceFile(this.#markFile, `${JSON.stringify({ token: this.#token, state })}\n`, { mode: 0o600 })
  }
}

function isBootstrapped(mark: Mark): boolean {
  return mark.kind === 'damaged' || (mark.kind === 'present' && mark.state === 'bootstrapped')
}

function parseMark(text: string): { readonly token: string; readonly state: State } | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined
  }
  const { token, state: found } = Object(json) as { readonly token?: unknown; readonly state?: unknown }
  const state = STATES.find((each) => each === found)
  return typeof token === 'string' && state ? { token, state } : undefined
}

/** '' for a file that does not exist, and for the files in /proc of a process that has ended. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
