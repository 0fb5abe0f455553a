// The version of the package, from its manifest.
import { readFileSync } from 'node:fs'
import { assert } from '../assert.ts'

export const VERSION = readVersion()

/** The manifest is two levels up from src/server/ and from dist/server/. */
function readVersion(): string {
  const url = new URL('../../package.json', import.meta.url)
  const manifest: unknown = JSON.parse(readFileSync(url, 'utf8'))
  assert(
    typeof manifest === 'object' && manifest !== null && 'version' in manifest,
    'package.json states the version',
  )
  return String(manifest.version)
}
