// Reading an embedded ledger through, before the ledger is opened.
import { type Database, open } from 'lmdb'
import { DamagedLedger, decodeLatest, decodeRecord, FORMAT_AT, isOwnFormat } from './lmdb-records.ts'

/**
 * Checks every record of a ledger against its checksum. Returns the last revision. A file of another format
 * is not read through: LmdbLedger refuses the file. Throws DamagedLedger; on a damaged file LMDB may crash.
 */
export function verifyLedger(path: string): number {
  const env = open({ path, encoding: 'binary', maxDbs: 4, readOnly: true })
  const log: Database<Uint8Array, number> = env.openDB({ name: 'log', encoding: 'binary' })
  const keys: Database<Uint8Array, string> = env.openDB({ name: 'keys', encoding: 'binary' })
  let last = 0
  const format = log.get(FORMAT_AT)
  if (format !== undefined && !isOwnFormat(format)) return last
  for (const { key, value } of log.getRange({ snapshot: false })) {
    if (key === FORMAT_AT) continue
    if (format === undefined) return last
    decodeRecord(key, value)
    if (last !== 0 && key !== last + 1) throw new DamagedLedger(`revision ${last + 1} is missing`)
    last = key
  }
  for (const { key, value } of keys.getRange({ snapshot: false })) {
    if (decodeLatest(key, value).revision > last) throw new DamagedLedger(`${key} is newer than the log`)
  }
  return last
}
