// How much of the log is kept: rotated files of the last days, up to a size, and never more than a part of
// the free disk. The oldest files go first.
import { readdir, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { CURRENT, logFiles } from './rotation.ts'

export type KeepLimits = {
  /** The line that reaches this size is the last line of its file. */
  readonly fileBytes: number
  /** Of the rotated files. */
  readonly files: number
  /** Of all files. */
  readonly bytes: number
  /** Since the last event of a rotated file. */
  readonly days: number
}

export type RotatedFile = {
  readonly path: string
  readonly bytes: number
  /** Of the last event, milliseconds since 1970. */
  readonly at: number
}

/** The calls to the system; a test hands in its own. */
export type EventDisk = {
  /** Free bytes of the disk with `dir`. */
  free(dir: string): Promise<number>
  /** The rotated files, the oldest first. */
  rotated(dir: string): Promise<RotatedFile[]>
  remove(path: string): Promise<void>
}

export const systemDisk: EventDisk = {
  async free(dir) {
    const { bavail, bsize } = await statfs(dir)
    return bavail * bsize
  },
  async rotated(dir) {
    const paths = logFiles(await readdir(dir))
      .filter((name) => name !== CURRENT)
      .map((name) => join(dir, name))
    return Promise.all(
      paths.map(async (path) => {
        const { size: bytes, mtimeMs: at } = await stat(path)
        return { path, bytes, at }
      }),
    )
  },
  remove: (path) => rm(path, { force: true }),
}

/** The part of the free disk that the log may take. */
const FREE_PART = 1 / 4
/** A file is rotated early where the room is small, but not below LEAST_BYTES: the oldest events can go. */
const FILES_IN_ROOM = 4
const LEAST_BYTES = 1024 * 1024
/** Between two looks at the disk. */
const LOOK_BYTES = 1024 * 1024
const LOOK_MS = 10_000
const DAY_MS = 24 * 60 * 60 * 1000
/** A clock that is wrong after a boot has been set right by then. */
const FIRST_AGING_MS = 60 * 60 * 1000

type KeepingOptions = {
  readonly dir: string
  readonly limits: KeepLimits
  readonly clock: Pick<Clock, 'now' | 'monotonic'>
  readonly disk: EventDisk
}

export class Keeping {
  readonly #options: KeepingOptions
  readonly #openedAt: number
  /** The rotated files, the oldest first; undefined before the first look. */
  #files: RotatedFile[] | undefined
  /** Bytes that all files together may have, as of the last look. */
  #room: number
  /** Size of the current file at which the next look is due. */
  #lookAt = 0
  /** Monotonic time of the last look. */
  #lookedAt = Number.NEGATIVE_INFINITY

  constructor(options: KeepingOptions) {
    const { fileBytes, files, bytes, days } = options.limits
    assert(fileBytes > 0 && files > 0 && bytes > 0 && days > 0, 'an event log needs room for a file')
    this.#options = options
    this.#openedAt = options.clock.monotonic()
    this.#room = bytes
  }

  /** The size at which the current file is rotated. */
  get fileBytes(): number {
    return Math.min(this.#options.limits.fileBytes, Math.max(LEAST_BYTES, this.#room / FILES_IN_ROOM))
  }

  /** Whether `look` is due before the current file, of `size` bytes, gets `coming` more. */
  isDue(size: number, coming: number): boolean {
    return size + coming > this.#lookAt || this.#options.clock.monotonic() - this.#lookedAt >= LOOK_MS
  }

  /** The current file was rotated. */
  add(file: RotatedFile): void {
    this.#files?.push(file)
  }

  /**
   * Looks at the disk, and removes what is too old or too much before the current file, of `size` bytes, gets
   * `coming` more. Never throws: what cannot be removed now is tried again.
   */
  async look(size: number, coming: number): Promise<void> {
    const { dir, limits, clock, disk } = this.#options
    const ahead = Math.max(coming, LOOK_BYTES)
    this.#lookedAt = clock.monotonic()
    this.#lookAt = size + ahead
    try {
      let free = await disk.free(dir)
      const oldest = this.#oldestKept()
      /** Bytes for the log once `ahead` is written, which takes room itself. */
      const room = (): number => Math.min(limits.bytes, Math.max(0, free - ahead) * FREE_PART)
      const fits = (files: readonly RotatedFile[]): boolean =>
        files.length <= limits.files &&
        files.reduce((sum, { bytes }) => sum + bytes, size) + ahead <= room() &&
        files.every(({ at }) => at >= oldest)
      // Others may have removed files: the disk is asked before one is removed.
      if (this.#files === undefined || !fits(this.#files)) this.#files = await disk.rotated(dir)
      while (this.#files.length > 0 && !fits(this.#files)) {
        const [{ path, bytes }] = this.#files
        await disk.remove(path)
        this.#files.shift()
        free += bytes
      }
      this.#room = room()
    } catch {
      // Too many files are kept until the next look.
    }
  }

  #oldestKept(): number {
    const { limits, clock } = this.#options
    if (clock.monotonic() - this.#openedAt < FIRST_AGING_MS) return Number.NEGATIVE_INFINITY
    return clock.now() - limits.days * DAY_MS
  }
}
