// Recognition: whether a ledger is the ledger that the replica has followed. Two empty clusters with the same
// flags have the same cluster id, so the ledger's own identity counts, its head, and a witness.
import { crc32 } from 'node:zlib'
import type { Reader } from '../ledger/ledger.ts'
import { decodeEntry, type Genesis, LEDGER_FORMAT } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { Decoded } from '../state/state.ts'
import { CorruptEntry } from '../state/writer.ts'
import type { Meta } from './store.ts'

/** Reads the genesis; undefined where the ledger is empty. Throws CorruptEntry, LedgerUnavailable. */
export async function readGenesis(ledger: Reader): Promise<Genesis | undefined> {
  const { value } = await ledger.read(ledgerKey.genesis)
  const genesis = value ? decodeEntry(ledgerKey.genesis, value) : undefined
  if (genesis?.kind !== 'genesis') return undefined
  if (genesis.format > LEDGER_FORMAT)
    throw new CorruptEntry(`the ledger has format ${genesis.format}, this version knows ${LEDGER_FORMAT}`)
  return genesis
}

/**
 * Why the ledger is not the followed ledger; undefined where it is: same identity, a head not before the
 * cursor, and the witness with the same revision and bytes. Throws LedgerUnavailable.
 */
export async function ledgerMismatch(
  ledger: Reader,
  genesis: Genesis,
  followed: Meta,
): Promise<string | undefined> {
  if (genesis.identity !== followed.ledger)
    return `the ledger is ${genesis.identity}, and the replica follows ${followed.ledger}`
  const head = await ledger.head()
  if (head < followed.cursor)
    return `the ledger ends at revision ${head}, and revision ${followed.cursor} has been applied here`
  return missingWitness(ledger, followed.witness)
}

async function missingWitness(ledger: Reader, witness: string): Promise<string | undefined> {
  if (witness === '') return undefined
  const [key, revision, checksum] = witness.split(' ')
  const { value, revision: at } = await ledger.read(key)
  if (value !== null && at === Number(revision) && crc32(value) === Number(checksum)) return undefined
  return `the ledger does not hold ${key} as it was applied here at revision ${revision}`
}

/**
 * The witness of a transaction: key, revision and CRC-32 of its last segment or boot, the kinds that are
 * never put again; undefined where it has neither.
 */
export function witnessOf(
  revisions: readonly { readonly decoded: readonly Decoded[] }[],
): string | undefined {
  for (let i = revisions.length - 1; i >= 0; i--) {
    const put = revisions[i].decoded.findLast(
      ({ entry }) => entry.kind === 'segment' || entry.kind === 'boot',
    )
    if (put) return `${put.key} ${put.revision} ${crc32(put.value)}`
  }
  return undefined
}
