// The files that a clean stop vouches for. The stop closes the files of a node, makes each durable, and notes
// size, times and inode; a start does not read an unchanged file through. A write changes the ctime, which no
// program can choose, and a copied or restored file has another inode or ctime. The start removes the note
// before a file is opened for writing: a node that is killed leaves no note.
//
// A write within the tick of the noted ctime would not show. A tick is some milliseconds, up to two seconds
// on some file systems, so a note counts only for files with times before the ctime of the note itself.
import { type BigIntStats, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { assert } from '../assert.ts'
import { removeFile, replaceFile, syncFile } from '../files.ts'
import { until } from '../waiting.ts'

const NAME = 'clean-stop.json'
/** How long the stop waits for a later tick of the file system, in milliseconds. */
const TICK = { every: 5, within: 2500 } as const

export class CleanStop {
  readonly #data: string
  /** Paths of files that are whole. */
  readonly #whole = new Set<string>()
  #spoiled = false

  private constructor(data: string) {
    this.#data = data
  }

  /** Reads the note of the last stop, and removes the note. Throws errors of the system. */
  static take(data: string): CleanStop {
    const taken = new CleanStop(data)
    for (const [name, mark] of Object.entries(taken.#read()))
      if (taken.#isUnchanged(join(data, name), mark)) taken.#whole.add(join(data, name))
    removeFile(taken.#note)
    return taken
  }

  get #note(): string {
    return join(this.#data, NAME)
  }

  /** Whether the file is whole: the last stop vouches for the file, or the file was read through since. */
  isWhole(path: string): boolean {
    return this.#whole.has(path)
  }

  /** Adds a file that was read through, or begun anew: the next note names the file. */
  add(path: string): void {
    assert(dirname(dirname(path)) === this.#data, 'a stop vouches for files of its own data directory')
    this.#whole.add(path)
  }

  /** The node has failed, perhaps because of damage: no note is written. */
  spoil(): void {
    this.#spoiled = true
  }

  /**
   * Notes the files; call when all are closed. Writes no note where the file system has no later tick in
   * time. Throws FileError, and errors of the system.
   */
  async write(): Promise<void> {
    if (this.#spoiled || this.#whole.size === 0) return
    const marks = new Map<string, string>()
    for (const path of this.#whole) {
      syncFile(path)
      marks.set(path, markOf(statOf(path)))
    }
    const named = [...marks].map(([path, mark]) => [relative(this.#data, path), mark])
    const text = `${JSON.stringify(Object.fromEntries(named))}\n`
    const isWritten = await until(() => {
      replaceFile(this.#note, text)
      return [...marks].every(([path, mark]) => this.#isUnchanged(path, mark))
    }, TICK)
    if (!isWritten) removeFile(this.#note)
  }

  /** Marks by name; empty where there is no note, or another file in its place. */
  #read(): object {
    try {
      const marks: unknown = JSON.parse(readFileSync(this.#note, 'utf8'))
      return marks !== null && typeof marks === 'object' ? marks : {}
    } catch {
      return {}
    }
  }

  #isUnchanged(path: string, mark: unknown): boolean {
    try {
      const [stat, note] = [statOf(path), statOf(this.#note)]
      return markOf(stat) === mark && stat.ctimeNs < note.ctimeNs && stat.mtimeNs < note.ctimeNs
    } catch {
      return false
    }
  }
}

function statOf(path: string): BigIntStats {
  return statSync(path, { bigint: true })
}

function markOf({ size, mtimeNs, ctimeNs, ino }: BigIntStats): string {
  return `${size} bytes, mtime ${mtimeNs}, ctime ${ctimeNs}, inode ${ino}`
}
