// The puts of a revision, decoded.
import { decodeEntry, type Entry } from './entries.ts'
import { type LedgerKey, parseKey } from './ledger-keys.ts'
import { CorruptEntry } from './writer.ts'

/** A key of a revision with the bytes put there; null where the key was removed. */
type Put = {
  readonly key: string
  readonly value: Uint8Array | null
  /** The revision of the put that created the key. */
  readonly created: number
}

/** A decoded put. */
export type Decoded = {
  readonly key: string
  readonly entry: Entry
  readonly value: Uint8Array
  /** The revision of the put. */
  readonly revision: number
  /** The revision of the put that created the key. */
  readonly created: number
}

/** The key of a receipt that was removed. Entries of no other kind are ever removed. */
export type RemovedReceipt = Extract<LedgerKey, { kind: 'receipt' }> & { readonly key: string }

/** Decodes the puts of a revision, without foreign keys. Throws CorruptEntry, OtherFormat. */
export function decodePuts(
  revision: number,
  puts: readonly Put[],
): { decoded: Decoded[]; removed: RemovedReceipt[]; foreign: number } {
  const decoded: Decoded[] = []
  const removed: RemovedReceipt[] = []
  let foreign = 0
  for (const { key, value, created } of puts) {
    if (value !== null) {
      const entry = decodeEntry(key, value)
      if (entry === undefined) foreign++
      else decoded.push({ key, entry, value, revision, created })
      continue
    }
    const name = parseKey(key)
    if (name === undefined) foreign++
    else if (name.kind === 'receipt') removed.push({ ...name, key })
    else throw new CorruptEntry(`the entry ${key} was removed, and entries of its kind never are`)
  }
  return { decoded, removed, foreign }
}
