// Programs of the system that check a recipe. Tests without their program are skipped, and say so.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The path of the program; undefined where the machine has none. Also looked for where only root looks. */
export function programPath(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/sbin']
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

/** For `skip` of a test: false, or what lacks. */
export function without(name: string): string | false {
  return programPath(name) === undefined && `${name} is not on this machine`
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
