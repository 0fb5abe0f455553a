// The free disk of the embedded ledger, and of everything beside the ledger. LMDB itself must never meet a
// full disk: a failed write overruns a buffer of LMDB (3.5.6, `last_error` in mdb.c), and a new file is
// written through a map, where a full disk is SIGBUS. Either ends the process.
import { existsSync, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { OperatorError } from '../errors.ts'
import { LedgerUnavailable } from './ledger.ts'

/**
 * Free disk kept for the replica and the event log: below the reserve, new commits are refused as
 * `disk-full`.
 */
const RESERVE_BYTES = 32 * 1024 * 1024
/** Of a new file, and of what a transaction writes beside its values. */
const LEAST_BYTES = 1024 * 1024
/** A value takes whole pages, or a part of a page that is written anew. */
const VALUE_FACTOR = 2
/** A put anywhere in the order of the keys writes a leaf anew, and splits another page at most. */
const PUT_BYTES = 8 * 1024

/** Bytes. */
type DiskSpace = {
  readonly free: number
  /** Below that, the embedded ledger refuses commits. */
  readonly reserve: number
}

/** `puts`: those that are not at the end of the order of their keys. `bytes`: of all keys and values. */
export type Transaction = { readonly puts: number; readonly bytes: number }

/** The space of the disk with `path`. Takes 3 µs; the same by another thread takes 100 µs. */
export function diskSpace(path: string): DiskSpace {
  const { bavail, blocks, bsize } = statfsSync(path)
  return { free: bavail * bsize, reserve: Math.min(RESERVE_BYTES, blocks * bsize * 0.05) }
}

/** Whether LMDB can write the transaction into the directory. */
export function hasRoom(path: string, transaction: Transaction): boolean {
  return diskSpace(path).free >= neededBytes(transaction)
}

function neededBytes({ puts, bytes }: Transaction): number {
  return LEAST_BYTES + VALUE_FACTOR * bytes + PUT_BYTES * puts
}

/** Throws OperatorError where LMDB would have to make a file in the directory, without room for the file. */
export function checkRoomToOpen(path: string): void {
  const isNew = ['data.mdb', 'lock.mdb'].some((file) => {
    const found = statSync(join(path, file), { throwIfNoEntry: false })
    return !found || found.blocks === 0
  })
  if (!isNew) return
  let there = path
  while (!existsSync(there)) there = dirname(there)
  if (diskSpace(there).free < LEAST_BYTES)
    throw new OperatorError(`there is no room for new files in ${path}`, { hint: 'make room on the disk' })
}

export class DiskRoom {
  readonly #path: string

  /** `path`: a directory on the disk. */
  constructor(path: string) {
    this.#path = path
  }

  /** Throws LedgerUnavailable `disk-full` below the reserve, and without room for the transaction. */
  async check(transaction: Transaction): Promise<void> {
    const { free, reserve } = diskSpace(this.#path)
    if (free < Math.max(reserve, neededBytes(transaction)))
      throw new LedgerUnavailable('disk-full', 'the disk is full')
  }
}
