// Ledgers that are not the followed one: an older copy that was written on, and one of another identity. A node that is led
// to one of these has to refuse the connection, unless nothing tells the copy from the ledger that the node has applied.

import { type Clock, Deadline, randomHex } from '../../src/clock.ts'
import type { Revision } from '../../src/ledger/ledger.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { found } from './genesis.ts'
import type { Random } from './seed.ts'

export type OtherLedger = {
  readonly ledger: MemoryLedger
  /** Up to this revision the ledger is the followed one; 0: of another identity. */
  readonly same: number
  /** Whether no endpoint leads to the right ledger. */
  readonly everywhere: boolean
}

/** Most revisions that a copy has lost. */
const MOST_LOST = 12
/** Entries of which every one is told again to every node that comes. */
const WITNESSED = /^(seg|boot|epoch|key|version)\//

type OtherOptions = { readonly history: readonly Revision[]; readonly random: Random; readonly clock: Clock }

export async function otherLedger({ history, random, clock }: OtherOptions): Promise<OtherLedger> {
  const ledger = new MemoryLedger()
  const everywhere = random.chance(0.5)
  const isSecond = random.chance(0.2)
  const same = isSecond ? 0 : Math.max(1, history.length - 1 - random.below(MOST_LOST))
  if (isSecond) await found(ledger, { clock, identity: randomHex(clock, 16) })
  else for (const revision of history.slice(0, same)) await put(ledger, revision)
  // Later entries have other revisions: a boot stands before.
  await putBoot(ledger, clock)
  if (random.chance(0.5) && !isSecond) for (const revision of history.slice(same)) await put(ledger, revision)
  while ((await ledger.head()) < history.length + random.below(5)) await putBoot(ledger, clock)
  return { ledger, same, everywhere }
}

async function put(ledger: MemoryLedger, { puts }: Revision): Promise<void> {
  await ledger.commit({ if: [], put: puts.map(({ key, value }) => ({ key, value })) }, Deadline.never)
}

async function putBoot(ledger: MemoryLedger, clock: Clock): Promise<void> {
  const boot = randomHex(clock, 16)
  const value = encodeEntry({ kind: 'boot', boot, node: 'n9' }, { boot, commit: 1 })
  await ledger.commit({ if: [], put: [{ key: ledgerKey.boot(boot), value }] }, Deadline.never)
}

/** Whether a replica with the cursor has applied an entry that the other ledger lacks, and that witnesses tell. */
export function isToldApart({ same }: OtherLedger, history: readonly Revision[], cursor: number): boolean {
  if (same === 0) return cursor > 0
  return history
    .slice(same, cursor)
    .some(({ revision, puts }) =>
      puts.some(
        ({ key, created }) => WITNESSED.test(key) && (created === revision || key.startsWith('epoch/')),
      ),
    )
}
