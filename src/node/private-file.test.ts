// The rights on files with keys, by mode and owner.
import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readPrivateFile } from './private-file.ts'

const dir = mkdtempSync(join(tmpdir(), 'coffer-private-'))
after(() => rmSync(dir, { recursive: true }))

const path = join(dir, 'keyring.json')
writeFileSync(path, 'keys')
const isRoot = process.getuid?.() === 0

function isRead(mode: number): boolean {
  chmodSync(path, mode)
  try {
    assert.equal(readPrivateFile(path), 'keys')
    return true
  } catch (error) {
    assert.match(String(error), /keyring\.json can be read by others \(mode \d+\): chmod 600 it/)
    return false
  }
}

test('a file of its user: no right of group and others', () => {
  if (isRoot) chownSync(path, 65534, 65534)
  assert.deepEqual([0o600, 0o400].map(isRead), [true, true])
  assert.deepEqual([0o640, 0o440, 0o620, 0o610, 0o604, 0o602, 0o601].map(isRead), Array(7).fill(false))
})

test('a file of root: the group may read, as Kubernetes gives secrets to a process', {
  skip: !isRoot,
}, () => {
  chownSync(path, 0, 65534)
  assert.deepEqual([0o600, 0o440, 0o640, 0o400].map(isRead), Array(4).fill(true))
  assert.deepEqual([0o660, 0o460, 0o450, 0o444, 0o642, 0o641].map(isRead), Array(6).fill(false))
})

test('a file that is missing, or cannot be read', () => {
  assert.throws(() => readPrivateFile(join(dir, 'none')), /none is missing: restore/)
  assert.throws(() => readPrivateFile(dir), /is a directory/)
})
