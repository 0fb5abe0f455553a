// Identity and mounts of files. A file can be a mount point of its own, as a container's configuration often
// is; no other file can take its name then.
import { readFileSync, realpathSync, statSync } from 'node:fs'

/** True where both paths lead to the same file; false where a path does not exist. */
export function isSameFile(path: string, other: string): boolean {
  const [one, two] = [path, other].map((each) => statSync(each, { throwIfNoEntry: false }))
  return one !== undefined && one.ino === two?.ino && one.dev === two.dev
}

/** Whether the file behind the path is a mount point. False where the system has no /proc. */
export function isMountPoint(path: string): boolean {
  let mounts: string
  try {
    mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    return false
  }
  const target = realpathSync(path)
  return mounts.split('\n').some((line) => unescaped(line.split(' ')[4] ?? '') === target)
}

/** Blanks, tabs, line feeds and backslashes are octal: `\040`. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
