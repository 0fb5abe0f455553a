// The keyring file of commands. Without the root keys nothing can be read again, so a new keyring takes the
// place of the old one only after the new one has been read back and parsed, and the old one stays as a file.
import { statSync } from 'node:fs'
import { Keyring, KeyringError } from '../../crypto/keyring.ts'
import { checkReplaceable, replaceFile } from '../../files.ts'
import { readPrivateFile } from '../../node/private-file.ts'

/** Throws PrivateFileError, KeyringError. */
export function readKeyringFile(path: string): Keyring {
  return Keyring.parseFile(readPrivateFile(path), path)
}

/** The keyring file before the last change. */
export function olderKeyringFile(path: string): string {
  return `${path}.old`
}

/** Throws FileError where `replaceKeyring` would not get as far as writing. Changes nothing. */
export function checkKeyringReplaceable(path: string): void {
  for (const each of [olderKeyringFile(path), path]) checkReplaceable(each)
}

/**
 * Replaces the keyring file, under its lock; the content before becomes `olderKeyringFile`. Throws FileError,
 * PrivateFileError, KeyringError; then the file is as before.
 */
export function replaceKeyring(path: string, keyring: Keyring): void {
  const before = readPrivateFile(path)
  const text = keyring.serialize()
  if (text === before) return
  const attributes = statSync(path)
  replaceFile(olderKeyringFile(path), before, { mode: attributes.mode, like: attributes })
  replaceFile(path, text, {
    check: (readBack) => checkSame(keyring, Keyring.parse(readBack().toString('utf8'))),
  })
}

function checkSame(wanted: Keyring, written: Keyring): void {
  if (written.serialize() !== wanted.serialize())
    throw new KeyringError('the keyring does not read back as it was written')
}
