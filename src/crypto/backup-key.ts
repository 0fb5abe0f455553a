// The authentication of a backup: HMAC-SHA-256 over the bytes of the file, under a random key of this backup
// alone. The file holds the key wrapped by the keyring and bound to the head: without the keyring nobody can
// change, leave out or add bytes, or take bytes from another backup.
import { createHmac, createSecretKey, type Hmac, type KeyObject } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { Keyring } from './keyring.ts'

const KEY_BYTES = 32
export const BACKUP_MAC_BYTES = 32

type BackupKey = { readonly key: KeyObject; readonly wrapped: Uint8Array }

/** A new key. `head`: all that the head of the backup says, each part as text. */
export function newBackupKey(keyring: Keyring, head: readonly string[], clock: Clock): BackupKey {
  const key = clock.random(KEY_BYTES)
  return { key: createSecretKey(key), wrapped: keyring.wrap(key, ['backup', ...head], clock) }
}

/** Throws UnknownRootKey, and UnwrapError where key or head were changed. */
export function openBackupKey(wrapped: Uint8Array, head: readonly string[], keyring: Keyring): KeyObject {
  return createSecretKey(keyring.unwrap(wrapped, ['backup', ...head]))
}

export function backupMac(key: KeyObject): Hmac {
  return createHmac('sha256', key)
}
