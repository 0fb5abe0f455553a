// Identity of files, and ties between a name and a file: a mount of its own, as a container's configuration
// often is, and flags of the file system. No other file can take the name then.
import { closeSync, constants, openSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { errorCode } from './errors.ts'

/** True where both paths lead to the same file; false where a path does not exist. */
export function isSameFile(path: string, other: string): boolean {
  const [one, two] = [path, other].map((each) => statSync(each, { throwIfNoEntry: false }))
  return one !== undefined && one.ino === two?.ino && one.dev === two.dev
}

/** Why no other file can take the name of the file, and the next step. `path` is no link. Changes nothing. */
export function tieOf(path: string): { readonly reason: string; readonly hint: string } | undefined {
  if (isMountPoint(path)) return { reason: 'a mount of its own', hint: 'mount its directory' }
  if (isFlagged(path))
    return { reason: 'its flags forbid changes', hint: `remove them as root: chattr -i -a ${path}` }
  return undefined
}

/** Whether the file behind the path is a mount point. False where the system has no /proc. */
function isMountPoint(path: string): boolean {
  let mounts: string
  try {
    mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    return false
  }
  const target = realpathSync(path)
  return mounts.split('\n').some((line) => unescaped(line.split(' ')[4] ?? '') === target)
}

/** Whether the file is immutable or append-only: EPERM has no other cause, and root gets EPERM too. */
function isFlagged(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK))
    return false
  } catch (error) {
    return errorCode(error) === 'EPERM'
  }
}

/** Blanks, tabs, line feeds and backslashes are octal: `\040`. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
