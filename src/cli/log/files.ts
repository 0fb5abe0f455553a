// Where event logs are: a file, a node's data directory, or a vault's directory.
import { readdirSync, realpathSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'
import { CURRENT, logFiles } from '../../events/rotation.ts'
import { readConfig } from '../../node/config.ts'

/** The log of one node: a directory, or a single file. */
export type LogPlace =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string }

/**
 * The logs at `paths`, each once. A vault's directory stands for the data directories in its configurations,
 * and for the directories below it that hold event logs. Throws OperatorError where a path has no log, or,
 * if logs may come later, does not exist.
 */
export function findLogs(paths: readonly string[], { mayCome = false } = {}): LogPlace[] {
  const found = new Map<string, LogPlace>()
  for (const path of paths) {
    for (const place of logsAt(path, mayCome)) found.set(realpathSync(place.path), place)
  }
  const directories = [...found].filter(([, { kind }]) => kind === 'directory').map(([path]) => path)
  // A file of a directory that is read anyway would be read twice.
  return [...found]
    .filter(([path, { kind }]) => kind === 'directory' || !inLog(path, directories))
    .map(([, place]) => place)
}

function inLog(path: string, directories: readonly string[]): boolean {
  return (
    directories.includes(dirname(path)) && filesOf({ kind: 'directory', path: dirname(path) }).includes(path)
  )
}

/** The files of a log, the oldest first; none where a directory has gone meanwhile. */
export function filesOf({ kind, path }: LogPlace): string[] {
  if (kind === 'file') return [path]
  try {
    return logFiles(readdirSync(path)).map((name) => join(path, name))
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return []
    throw error
  }
}

function logsAt(path: string, mayCome: boolean): LogPlace[] {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined)
    throw new OperatorError(`${path} does not exist`, {
      hint: 'name an event log, or the directory of a vault',
    })
  if (!stat.isDirectory()) return [{ kind: 'file', path }]
  if (hasLog(path)) return [{ kind: 'directory', path }]
  const below = [...new Set([...childrenOf(path), ...configuredIn(path)])].filter(hasLog)
  if (below.length === 0 && !mayCome)
    throw new OperatorError(`${path} has no event log (${CURRENT})`, {
      hint: 'name the directory of a vault whose nodes have been started, or a data directory',
    })
  return below.map((data) => ({ kind: 'directory', path: data }))
}

function hasLog(path: string): boolean {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return false
  return filesOf({ kind: 'directory', path }).length > 0
}

function childrenOf(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
    .map(({ name }) => join(path, name))
}

/** The data directories of the configurations in `path`; a file with faults is passed over. */
function configuredIn(path: string): string[] {
  return readdirSync(path)
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name) => {
      try {
        return [readConfig(join(path, name)).data]
      } catch {
        return []
      }
    })
}
