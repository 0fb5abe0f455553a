// Finding etcd: a binary that could not be run says nothing about the binary.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { findEtcd } from './etcd-binary.ts'

const scripts: Record<string, readonly [script: string, refused: RegExp]> = {
  'another program': ['echo hello', /is not an etcd that runs here/],
  'an etcd that answers stale reads': ['echo etcd Version: 3.5.0', /is etcd 3\.5\.0, which can answer/],
  'an etcd that was killed, as for want of memory': [
    'kill -KILL $$',
    /could not be asked for its version \(SIGKILL\)/,
  ],
}
for (const [name, [script, refused]] of Object.entries(scripts)) {
  test(`${name} is refused as such`, () => {
    const dir = mkdtempSync(join(tmpdir(), 'coffer-etcd-'))
    try {
      const path = join(dir, 'etcd')
      writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o700 })
      assert.throws(() => findEtcd(path), refused)
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
}
