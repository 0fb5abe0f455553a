// Reading an embedded ledger through, before the ledger is opened.
import { type Database, open, type RootDatabase } from 'lmdb'
import { DamagedLedger, decodeLatest, decodeRecord, FORMAT_AT, isOwnFormat } from './lmdb-records.ts'
import { checkRoomToOpen } from './lmdb-room.ts'

/**
 * Checks every record of a ledger against its checksum. Returns the last revision. A file of another format
 * is not read through: LmdbLedger refuses the file. Throws DamagedLedger; on a damaged file LMDB may crash.
 */
export function verifyLedger(path: string): number {
  checkRoomToOpen(path)
  const env = open({ path, encoding: 'binary', maxDbs: 4, readOnly: true })
  const log = database<number>(env, 'log')
  const keys = database<string>(env, 'keys')
  if (!log || !keys) return checkNew(env, log)
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
    if (typeof key !== 'string') throw new DamagedLedger('a key is not a text')
    if (decodeLatest(key, value).revision > last) throw new DamagedLedger(`${key} is newer than the log`)
  }
  return last
}

/** Undefined where the file has no such database. */
function database<K extends string | number>(
  env: RootDatabase,
  name: string,
): Database<Uint8Array, K> | undefined {
  return env.openDB({ name, encoding: 'binary' })
}

/** A process killed at the first start of a node leaves a file without databases, or with an empty log. */
function checkNew(env: RootDatabase, log: Database<Uint8Array, number> | undefined): number {
  const stats = env.getStats()
  const databases = 'entryCount' in stats ? stats.entryCount : undefined
  const [revision] = log?.getKeys({ limit: 1 }) ?? []
  if (revision === undefined && databases === (log ? 1 : 0)) return 0
  throw new DamagedLedger('a database of the file is missing')
}
