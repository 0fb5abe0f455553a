// The files of an event log: `events.ndjson` is written, older files are `events-<first seq>.ndjson`.
import { readdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FileError, replaceFile } from '../files.ts'
import { readTail } from './file.ts'

export const CURRENT = 'events.ndjson'
/** The greatest number that was recorded. */
const NUMBER = 'events.seq'

function rotatedName(first: number): string {
  return `events-${first}.ndjson`
}

/** The files of a log among the names of a directory, the oldest first: the current file is the last. */
export function logFiles(names: readonly string[]): string[] {
  const rotated: number[] = []
  for (const name of names) {
    const match = /^events-([1-9][0-9]{0,15})\.ndjson$/.exec(name)
    if (match !== null) rotated.push(Number(match[1]))
  }
  const current = names.includes(CURRENT) ? [CURRENT] : []
  return [...rotated.sort((a, b) => a - b).map(rotatedName), ...current]
}

/** Names of the rotated files in `dir`, the newest first. */
async function rotatedFiles(dir: string): Promise<string[]> {
  return logFiles(await readdir(dir))
    .filter((name) => name !== CURRENT)
    .reverse()
}

/** The number of the last event in `dir`, 0 without events. Reads only the ends of files. */
export async function lastNumber(dir: string): Promise<number> {
  const recorded = Number((await readTail(join(dir, NUMBER)))?.trim())
  const least = Number.isSafeInteger(recorded) && recorded > 0 ? recorded : 0
  // A crash right after a rotation leaves no current file, or an empty file.
  for (const name of [CURRENT, ...(await rotatedFiles(dir))]) {
    const tail = await readTail(join(dir, name))
    const seq = firstNumber((tail ?? '').split('\n').reverse())
    if (seq !== undefined) return Math.max(seq, least)
  }
  return least
}

/**
 * Records that numbers up to `seq` are taken, for a start that finds no file of the log: somebody may have
 * moved the files away. Where the disk is full, the earlier record stays.
 */
export function recordNumber(dir: string, seq: number): void {
  try {
    replaceFile(join(dir, NUMBER), `${seq}\n`)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
  }
}

type Rotation = {
  /** The beginning of the current file. */
  readonly head: string
  /** The number in the new name where `head` has no event. */
  readonly fallback: number
}

/**
 * Renames the current file by its first number. Returns the new path; undefined where the file stays the
 * current file.
 */
export async function rotate(dir: string, { head, fallback }: Rotation): Promise<string | undefined> {
  const target = join(dir, rotatedName(firstNumber(head.split('\n')) ?? fallback))
  try {
    // rename() would overwrite the target.
    if (await exists(target)) return undefined
    await rename(join(dir, CURRENT), target)
    return target
  } catch {
    return undefined
  }
}

/** The `seq` of the first line that is an event; a part of a line is not an event. */
function firstNumber(lines: readonly string[]): number | undefined {
  for (const line of lines) {
    try {
      const seq: unknown = JSON.parse(line)?.seq
      if (typeof seq === 'number' && Number.isSafeInteger(seq) && seq > 0) return seq
    } catch {
      // Not JSON: a torn line, or nothing after the last newline.
    }
  }
  return undefined
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}
