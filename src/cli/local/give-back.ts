// Commands of root on a vault of another user, as with sudo: files made on the way belong to the user of the
// vault in the end. A node that cannot write files of root would not start again.
import { lchownSync, lstatSync, readdirSync, type Stats, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Config } from '../../node/config.ts'

type NodeFiles = Pick<Config, 'file' | 'node' | 'data'>

const ROOT = 0

/**
 * Gives all files of root in the node's data directory and beside the configuration to the user of the vault,
 * at the end of the process. The user is the owner of the data directory or, of a new one, of the directory
 * above. Does nothing for other users than root. Called before anything is made.
 */
export function giveBackAtExit({ file, node, data }: NodeFiles): void {
  if (process.getuid?.() !== ROOT) return
  const folder = dirname(file)
  const places = [
    { path: data, owner: ownerOf(data) },
    { path: join(folder, 'run'), owner: ownerOf(join(folder, 'run')) },
    { path: join(folder, `${node}.member`), owner: ownerOf(file) },
  ].filter(({ owner }) => owner.uid !== ROOT)
  process.once('exit', () => {
    for (const { path, owner } of places) giveBack(path, owner)
  })
}

/** Of the path, or of the next directory above that exists. */
function ownerOf(path: string): Stats {
  return statSync(path, { throwIfNoEntry: false }) ?? ownerOf(dirname(path))
}

/**
 * Symbolic links are not followed, and a file with a second name stays root's: the user of the directory may
 * have made both, to be given somebody else's file.
 */
function giveBack(path: string, owner: Stats): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (!found) return
  if (found.isDirectory()) for (const name of readdirSync(path)) giveBack(join(path, name), owner)
  if (found.uid === ROOT && (found.isDirectory() || found.nlink === 1)) lchownSync(path, owner.uid, owner.gid)
}
