// The keyrings of all nodes that a command is given, read and changed together.
import { realpathSync } from 'node:fs'
import type { Keyring } from '../../crypto/keyring.ts'
import { type Config, readConfig } from '../../node/config.ts'
import { checkKeyringReplaceable, readKeyringFile, replaceKeyring } from './keyring-file.ts'
import { whileLocked } from './locked-files.ts'

/** A keyring file as it was read, and its nodes; all nodes may share a file. */
export type KeyringFile = {
  readonly path: string
  readonly keyring: Keyring
  readonly nodes: readonly Config[]
}

/** Throws ConfigError, PrivateFileError, KeyringError. */
export function readKeyrings(configs: readonly string[]): KeyringFile[] {
  const byPath = new Map<string, Config[]>()
  for (const config of configs.map(readConfig)) {
    let path = config.keyring
    try {
      path = realpathSync(path)
    } catch {
      // A missing file is reported by readPrivateFile below.
    }
    byPath.set(path, [...(byPath.get(path) ?? []), config])
  }
  return [...byPath].map(([path, nodes]) => ({ path, nodes, keyring: readKeyringFile(path) }))
}

/** Throws PrivateFileError, KeyringError. */
export function reread(files: readonly KeyringFile[]): KeyringFile[] {
  return files.map((file) => ({ ...file, keyring: readKeyringFile(file.path) }))
}

/** A change of each keyring, decided on the content of all keyrings, and the result of the decision. */
type Decision<T> = { readonly edit: (keyring: Keyring) => Keyring; readonly result: T }

/**
 * Changes all keyrings, or none if a file cannot be replaced; the files are read again before `decide`.
 * Returns the files as `decide` got them. Throws FileError, PrivateFileError, KeyringError, errors of
 * `decide`.
 */
export type Change = <T>(
  files: readonly KeyringFile[],
  decide: (now: readonly KeyringFile[]) => Decision<T> | Promise<Decision<T>>,
) => Promise<{ readonly files: readonly KeyringFile[]; readonly result: T }>

/** The caller holds the locks of the files. */
export const changeLocked: Change = async (files, decide) => {
  const now = reread(files)
  const { edit, result } = await decide(now)
  const changed = now.map(({ path, keyring }) => ({ path, keyring: edit(keyring) }))
  for (const { path } of changed) checkKeyringReplaceable(path)
  for (const { path, keyring } of changed) replaceKeyring(path, keyring)
  return { files: now, result }
}

/** Locks the files. Throws InUse, too. */
export const change: Change = (files, decide) => locked(files, () => changeLocked(files, decide))

/** Runs `work` while no other command changes the files. Throws InUse, errors of `work`. */
export function locked<T>(files: readonly KeyringFile[], work: () => Promise<T>): Promise<T> {
  return whileLocked(
    files.map(({ path }) => path),
    work,
  )
}
