// Recognition: whether a ledger is the ledger that the replica has followed. Two empty clusters with the same
// flags have the same cluster id, so the ledger's own identity counts, its head, and the witnesses.
import type { Reader } from '../ledger/ledger.ts'
import { decodeEntry, type Genesis } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { contradiction, type Witnesses } from '../state/witness.ts'

/**
 * Reads the genesis; undefined where the ledger is empty. Throws CorruptEntry, OtherFormat,
 * LedgerUnavailable.
 */
export async function readGenesis(ledger: Reader): Promise<Genesis | undefined> {
  const { value } = await ledger.read(ledgerKey.genesis)
  const genesis = value ? decodeEntry(ledgerKey.genesis, value) : undefined
  return genesis?.kind === 'genesis' ? genesis : undefined
}

/** The ledger that a replica has followed: its identity, the last applied revision, and the witnesses. */
type Followed = {
  readonly ledger: string
  readonly cursor: number
  readonly witnesses: Witnesses
}

/**
 * Why a ledger is not the followed ledger; undefined where it may be: same identity, a head not before the
 * cursor, and every witness as it was applied. Throws LedgerUnavailable.
 */
export async function ledgerMismatch(
  reader: Reader,
  genesis: Genesis,
  { ledger, cursor, witnesses }: Followed,
): Promise<string | undefined> {
  if (genesis.identity !== ledger)
    return `the ledger is ${genesis.identity}, and the replica follows ${ledger}`
  const kept = Object.values(witnesses)
  const [head, ...found] = await Promise.all([reader.head(), ...kept.map(({ key }) => reader.read(key))])
  if (head < cursor) return endsBefore(head, cursor)
  for (const [i, witness] of kept.entries()) {
    const reason = contradiction(witness, found[i], cursor)
    if (reason !== undefined) return reason
  }
  return undefined
}

/** Why a ledger with this head is not the ledger applied up to `applied`. */
function endsBefore(head: number, applied: number): string {
  return `the ledger ends at revision ${head}, and revision ${applied} has been applied here`
}
