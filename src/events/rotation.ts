// The files of an event log: `events.ndjson` is written, older files are `events-<first seq>.ndjson`.
import { readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errorCode } from '../errors.ts'
import { readTail } from './file.ts'

export const CURRENT = 'events.ndjson'

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
  // A crash right after a rotation leaves no current file, or an empty file.
  for (const name of [CURRENT, ...(await rotatedFiles(dir))]) {
    const tail = await readTail(join(dir, name))
    const seq = firstNumber((tail ?? '').split('\n').reverse())
    if (seq !== undefined) return seq
  }
  return 0
}

type Rotation = {
  /** The beginning of the current file. */
  readonly head: string
  /** Number of rotated files to keep: the newest ones. */
  readonly keep: number
  /** The number in the new name where `head` has no event. */
  readonly fallback: number
}

/** Renames the current file by its first number. Returns whether a new current file can begin. */
export async function rotate(dir: string, { head, keep, fallback }: Rotation): Promise<boolean> {
  try {
    const target = join(dir, rotatedName(firstNumber(head.split('\n')) ?? fallback))
    // rename() would overwrite the target.
    if (await exists(target)) return false
    await rename(join(dir, CURRENT), target)
  } catch (error) {
    // ENOENT: somebody has removed or renamed the current file.
    return errorCode(error) === 'ENOENT'
  }
  try {
    for (const name of (await rotatedFiles(dir)).slice(keep)) await rm(join(dir, name))
  } catch {
    // The next rotation removes the rest.
  }
  return true
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
