// The etcd members of stopped nodes, run in the process of a command while the command needs their ledger.
import { constants } from 'node:os'
import { OperatorError } from '../../errors.ts'
import { type Logger, SILENT } from '../../log.ts'
import type { Config } from '../../node/config.ts'
import { findEtcd } from '../../node/etcd-binary.ts'
import { type Member, startMember } from '../../node/member.ts'
import { MemberDirectory } from '../../node/member-directory.ts'
import { readLedgerTls } from '../../node/tls-files.ts'
import { removeMemberPid, writeMemberPid } from './node-process.ts'
import { endProcess } from './process-end.ts'

type NodeMember = { readonly node: string; readonly member: Member }

type MembersOptions = {
  /** Gets lines for a person. */
  readonly report: (text: string) => void
  /** Called before the members stop after a signal. */
  readonly endWork?: () => Promise<void>
  /** Whether SIGINT and SIGTERM end the process, after the work and the members; true by default. */
  readonly exits?: boolean
}

export class TemporaryMembers {
  readonly #members: readonly NodeMember[]
  readonly #endWork: () => Promise<void>
  #exiting = false
  readonly #interrupted = (signal: NodeJS.Signals): void => void this.#exit(signal)

  private constructor(members: readonly NodeMember[], { endWork, exits = true }: MembersOptions) {
    this.#members = members
    this.#endWork = endWork ?? (async () => undefined)
    if (exits && members.length > 0) process.on('SIGINT', this.#interrupted).on('SIGTERM', this.#interrupted)
  }

  /**
   * Starts the members of the nodes, if any. Throws NoEtcd, TlsFileError, PrivateFileError, and OperatorError
   * where a member must not start, or its directory is of another cluster.
   */
  static start(nodes: readonly Config[], options: MembersOptions): TemporaryMembers {
    const { report } = options
    const found = nodes.flatMap((config) => {
      const { ledger } = config
      if (!ledger.member) return []
      if (ledger.tls) readLedgerTls(ledger.tls) // etcd takes keys that others can read, and names no file
      const directory = new MemberDirectory(config)
      const problem = directory.lost ?? directory.foreign
      if (problem !== undefined) throw new OperatorError(problem)
      return [{ config, etcd: findEtcd(ledger.member.etcd, (text) => report(`coffer: ${text}`)) }]
    })
    const log: Logger = { ...SILENT, warn: (_, message) => report(message) }
    return new TemporaryMembers(
      found.map(({ config, etcd }) => ({
        node: config.node,
        member: startMember({
          config,
          etcd,
          log,
          changed: (pid) =>
            pid === undefined ? removeMemberPid(config) : writeMemberPid(config, pid, report),
        }),
      })),
      options,
    )
  }

  /** Why members do not run, a line for each. */
  get problems(): string[] {
    return this.#members.flatMap(({ node, member: { problem } }) =>
      problem === undefined ? [] : [`member ${node}: ${problem}`],
    )
  }

  /** The work ends first: while members stop in turn, the others still have quorum. */
  async #exit(signal: NodeJS.Signals): Promise<void> {
    if (this.#exiting) return
    this.#exiting = true
    try {
      await Promise.allSettled([this.#endWork()]) // a ledger that could not be opened has no work
      await this.#stopMembers()
    } finally {
      endProcess(128 + constants.signals[signal])
    }
  }

  /** After a signal: never resolves, because the process ends with the members. */
  async stop(): Promise<void> {
    if (this.#exiting) return new Promise(() => undefined)
    await this.#stopMembers()
  }

  /**
   * One member after the other: a leader hands over before its end, which fails after 7 s if all end at once.
   */
  async #stopMembers(): Promise<void> {
    for (const { member } of this.#members) await member.stop()
    process.off('SIGINT', this.#interrupted).off('SIGTERM', this.#interrupted)
  }
}
