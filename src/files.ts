// Replacing a file of an operator in one step.
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'

type Look = Pick<Stats, 'mode' | 'uid' | 'gid'>

/** The new text is there whole or not at all, and durable. Mode and owner stay; a link goes on pointing at it. */
export function replaceFile(path: string, text: string): void {
  placeFile(path, text, statSync(path))
}

/**
 * The same of a file that need not be there, with the mode and, where the system allows it, the owner of another.
 * `check` is called before the last step; what it throws leaves everything as it was.
 */
export function placeFile(path: string, text: string, like: Look, check = (): void => {}): void {
  const target = existsSync(path) ? realpathSync(path) : path
  const temporary = join(dirname(target), `.${basename(target)}.new`)
  rmSync(temporary, { force: true })
  const file = openSync(temporary, 'wx', 0o600)
  try {
    try {
      giveTo(file, like)
      fchmodSync(file, like.mode & 0o777)
      writeFileSync(file, text)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    check()
    renameSync(temporary, target)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  sync(dirname(target))
}

/** Run as root for a service: the service must still be able to read it. */
function giveTo(file: number, { uid, gid }: Look): void {
  try {
    fchownSync(file, uid, gid)
  } catch {
    // Only root may give files away.
  }
}

/** Makes durable what is in it, and that it is there. */
export function syncFile(path: string): void {
  sync(path)
  sync(dirname(path))
}

/** What is in a file, or which files are in a directory, is durable then. */
export function sync(path: string): void {
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** False where one of them is not there. */
export function isSameFile(path: string, other: string): boolean {
  const [one, two] = [path, other].map((each) => statSync(each, { throwIfNoEntry: false }))
  return one !== undefined && one.ino === two?.ino && one.dev === two.dev
}
