// The etcd members of stopped nodes, run in this process while a command needs their ledger.
import { constants } from 'node:os'
import { type Logger, SILENT } from '../../log.ts'
import type { Config } from '../../node/config.ts'
import { findEtcd } from '../../node/etcd-binary.ts'
import { type Member, startMember } from '../../node/member.ts'
import { note } from '../terminal/terminal.ts'
import { removeMemberPid, writeMemberPid } from './running.ts'

type Run = { readonly node: string; readonly member: Member }

export class Members {
  readonly #members: readonly Run[]
  readonly #interrupted = (signal: NodeJS.Signals): void => {
    void this.stop().finally(() => process.exit(128 + constants.signals[signal]))
  }

  private constructor(members: readonly Run[]) {
    this.#members = members
    if (members.length > 0) process.on('SIGINT', this.#interrupted).on('SIGTERM', this.#interrupted)
  }

  /** Of the nodes that have one. Throws NoEtcd. */
  static start(nodes: readonly Config[]): Members {
    const found = nodes.flatMap((config) => {
      const { ledger } = config
      if (!ledger.member) return []
      return [{ config, etcd: findEtcd(ledger.member.etcd, (text) => note(`coffer: ${text}`)) }]
    })
    const log: Logger = { ...SILENT, warn: (_, message) => note(message) }
    return new Members(
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

  /** Why some of them do not run, a line each. */
  get problems(): string[] {
    return this.#members.flatMap(({ node, member: { problem } }) =>
      problem === undefined ? [] : [`member ${node}: ${problem}`],
    )
  }

  /** One after the other: a leader that stops hands over first, and where all stop at once waits 7 s in vain. */
  async stop(): Promise<void> {
    for (const { member } of this.#members) await member.stop()
    process.off('SIGINT', this.#interrupted).off('SIGTERM', this.#interrupted)
  }
}
