// For tests of commands of root on the vault of another user.
import { spawnSync } from 'node:child_process'
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
export const NOBODY = { uid: 65534, gid: 65534 }

/** A reason to skip; undefined: this process can start nodes of another user. */
export function withoutNobody(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can start nodes of other users'
  const { status } = spawnSync(process.execPath, [MAIN, '--version'], NOBODY)
  return status === 0 ? undefined : 'other users cannot read the sources'
}

/** `NAME UID:GID MODE` of all files and directories below a directory, sorted. */
export function attributesOf(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  return names
    .map((name) => {
      const { uid, gid, mode } = lstatSync(join(directory, name))
      return `${name} ${uid}:${gid} ${(mode & 0o7777).toString(8)}`
    })
    .sort()
}
