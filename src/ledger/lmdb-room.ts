// The free disk of the embedded ledger, and of everything beside the ledger.
import { statfs } from 'node:fs/promises'
import { LedgerUnavailable } from './ledger.ts'

/**
 * Free disk kept for the replica and the event log: below the reserve, new commits are refused as
 * `disk-full`.
 */
const RESERVE_BYTES = 32 * 1024 * 1024
/** How long a check is valid while the disk has plenty. */
const VALID_MS = 500

/** Bytes. */
type DiskSpace = {
  readonly free: number
  /** Below that, the embedded ledger refuses commits. */
  readonly reserve: number
}

/** The space of the disk with `path`. */
export async function diskSpace(path: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(path)
  return { free: bavail * bsize, reserve: Math.min(RESERVE_BYTES, blocks * bsize * 0.05) }
}

export class DiskRoom {
  readonly #path: string
  /** The disk has room until then, by `performance.now()`. */
  #until = 0

  /** `path`: a directory on the disk. */
  constructor(path: string) {
    this.#path = path
  }

  /**
   * Throws LedgerUnavailable `disk-full` below the reserve. `statfs` costs a trip to another thread: not
   * every time.
   */
  async check(now = performance.now()): Promise<void> {
    if (now < this.#until) return
    const { free, reserve } = await diskSpace(this.#path)
    if (free < reserve) throw new LedgerUnavailable('disk-full', 'the disk is full')
    this.#until = free > 16 * RESERVE_BYTES ? now + VALID_MS : 0
  }

  /** As `check`, whatever an earlier check found. */
  checkAnew(): Promise<void> {
    this.#until = 0
    return this.check()
  }
}
