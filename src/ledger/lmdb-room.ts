// The free disk of the embedded ledger.
import { statfs } from 'node:fs/promises'
import { LedgerUnavailable } from './ledger.ts'

/**
 * Free disk kept for the replica and the event log: below the reserve, new commits are refused as
 * `disk-full`.
 */
const RESERVE_BYTES = 32 * 1024 * 1024
/** How long a check is valid while the disk has plenty. */
const VALID_MS = 500

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
    const disk = await statfs(this.#path)
    const free = disk.bavail * disk.bsize
    const reserve = Math.min(RESERVE_BYTES, disk.blocks * disk.bsize * 0.05)
    if (free < reserve) throw new LedgerUnavailable('disk-full', 'the disk is full')
    this.#until = free > 16 * RESERVE_BYTES ? now + VALID_MS : 0
  }

  /** As `check`, whatever an earlier check found. */
  checkAnew(): Promise<void> {
    this.#until = 0
    return this.check()
  }
}
