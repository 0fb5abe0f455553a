// Recognition: whether a ledger is the ledger that the replica has followed. Two empty clusters with the same
// flags have the same cluster id, so the ledger's own identity counts, its head, and the witnesses.
import type { Found, Reader } from '../ledger/ledger.ts'
import { decodeEntry, type Genesis } from '../state/entries.ts'
import { ledgerKey, parseKey } from '../state/ledger-keys.ts'
import type { State } from '../state/state.ts'
import { contradiction, nameOf, type Witnesses } from '../state/witness.ts'

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

/** Why a ledger with the head is not the ledger of revision `least`. */
export function endsBefore(head: number, least: number): string {
  return `the ledger ends at revision ${head}, and revision ${least} has been applied or accepted`
}

/** Why a ledger without a put is not the ledger of the accepted put. */
export function lacksAccepted(key: string, revision: number): string {
  return `the ledger does not hold ${nameOf(key)} of revision ${revision}, which the ledger has accepted`
}

/**
 * Why a ledger that holds a key as found is not the ledger applied here up to `head` or further; undefined
 * where the ledger may be the same: the key's last put has been applied, or a put after `head`.
 */
export function otherwiseApplied(
  state: State,
  { key, revision }: Pick<Found, 'key' | 'revision'>,
  head: number,
): string | undefined {
  const name = parseKey(key)
  // Segments and boots are guarded by their own writer; a receipt may have been removed since.
  if (!name || name.kind === 'segment' || name.kind === 'boot' || name.kind === 'receipt') return undefined
  const applied = state.revisionOf(name)
  if (applied === revision || Math.max(applied, revision) > head) return undefined
  if (applied === 0) return `the ledger holds ${nameOf(key)} of revision ${revision}, not applied here`
  return `the ledger does not hold ${nameOf(key)} of revision ${applied} as it was applied here`
}
