// The etcd members of stopped nodes, run in the process of a command while the command needs their ledger.
import { constants } from 'node:os'
import { type Logger, SILENT } from '../../log.ts'
import type { Config } from '../../node/config.ts'
import { findEtcd } from '../../node/etcd-binary.ts'
import { type Member, startMember } from '../../node/member.ts'
import { removeMemberPid, writeMemberPid } from './node-process.ts'

type NodeMember = { readonly node: string; readonly member: Member }

export class TemporaryMembers {
  readonly #members: readonly NodeMember[]
  readonly #interrupted = (signal: NodeJS.Signals): void => {
    void this.stop().finally(() => process.exit(128 + constants.signals[signal]))
  }

  private constructor(members: readonly NodeMember[]) {
    this.#members = members
    if (members.length > 0) process.on('SIGINT', this.#interrupted).on('SIGTERM', this.#interrupted)
  }

  /** Starts the members of the nodes, if any; `report` gets lines for a person. Throws NoEtcd. */
  static start(nodes: readonly Config[], report: (text: string) => void): TemporaryMembers {
    const found = nodes.flatMap((config) => {
      const { ledger } = config
      if (!ledger.member) return []
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
          changed: (pid) => (pid === undefined ? removeMemberPid(config) : writeMemberPid(config, pid)),
        }),
      })),
    )
  }

  /** Why members do not run, a line for each. */
  get problems(): string[] {
    return this.#members.flatMap(({ node, member: { problem } }) =>
      problem === undefined ? [] : [`member ${node}: ${problem}`],
    )
  }

  /**
   * One member after the other: a leader hands over before its end, which fails after 7 s if all end at once.
   */
  async stop(): Promise<void> {
    for (const { member } of this.#members) await member.stop()
    process.off('SIGINT', this.#interrupted).off('SIGTERM', this.#interrupted)
  }
}
