// A ledger as a node finds it: one that begins with a genesis.
import { type Clock, Deadline, systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'

export const IDENTITY = 'e'.repeat(32)

type Genesis = { readonly keyring?: Keyring; readonly clock?: Clock; readonly identity?: string }

/** Puts the genesis: revision 1 of an empty ledger. */
export async function found(ledger: Ledger, genesis: Genesis = {}): Promise<void> {
  const { clock = systemClock, keyring = Keyring.create(clock), identity = IDENTITY } = genesis
  const receiptKey = keyring.wrap(clock.random(32), ['receipts'], clock)
  const writer = { boot: '0'.repeat(32), commit: 0 }
  const value = encodeEntry({ kind: 'genesis', identity, format: LEDGER_FORMAT, receiptKey }, writer)
  await ledger.commit(
    {
      if: [{ key: ledgerKey.genesis, revision: 0 }],
      put: [{ key: ledgerKey.genesis, value }],
    },
    Deadline.never,
  )
}
