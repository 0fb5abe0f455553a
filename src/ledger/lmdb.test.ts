// The embedded ledger beside other processes that read it.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { open } from 'lmdb'
import { Deadline } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { LedgerUnavailable } from './ledger.ts'
import { LmdbLedger } from './lmdb.ts'
import { verifyLedger } from './lmdb-verify.ts'

async function withLedger(run: (ledger: LmdbLedger, path: string) => Promise<void>): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), 'coffer-ledger-'))
  const ledger = new LmdbLedger(path)
  try {
    await run(ledger, path)
  } finally {
    await ledger.close()
    rmSync(path, { recursive: true })
  }
}

/** A process with the ledger in `ledger`, open for reading only; resolves when it has printed something. */
async function reader(path: string, code: string): Promise<ChildProcess> {
  const module = new URL('./lmdb.ts', import.meta.url).href
  const script = `
    import { LmdbLedger } from ${JSON.stringify(module)}
    const ledger = new LmdbLedger(${JSON.stringify(path)}, { readOnly: true })
    ${code}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout ?? assert.fail(), 'data')
  return child
}

const put = (key: string, text: string): Parameters<LmdbLedger['commit']>[0] => ({
  if: [],
  put: [{ key, value: Buffer.from(text) }],
})

test('a reader in another process sees every commit that was acknowledged before it asked', () =>
  withLedger(async (ledger, path) => {
    await ledger.commit(put('a', '0'), Deadline.never)
    const child = await reader(
      path,
      `process.stdin.on('data', async (asked) => {
        const { value, revision } = asked.includes('r') ? await ledger.read('a') : {}
        const head = asked.includes('h') ? await ledger.head() : revision
        console.log(JSON.stringify([head, value && Buffer.from(value).toString()]))
      })
      console.log('open')`,
    )
    const ask = async (what: string): Promise<unknown> => {
      child.stdin?.write(what)
      const [answer] = await once(child.stdout ?? assert.fail(), 'data')
      return JSON.parse(String(answer))
    }
    try {
      for (let i = 1; i <= 20; i++) {
        // Also when the file has become larger than the reader has mapped.
        await ledger.commit(put('b', 'x'.repeat(i * 10_000)), Deadline.never)
        const { revision } = await ledger.commit(put('a', String(i)), Deadline.never)
        assert.deepEqual(await ask(i % 2 === 0 ? 'h' : 'r'), [revision, i % 2 === 0 ? null : String(i)])
      }
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }))

test('it sees them within one turn of its event loop, too', () =>
  withLedger(async (ledger, path) => {
    await ledger.commit(put('a', '0'), Deadline.never)
    const signal = join(path, 'committed')
    const child = await reader(
      path,
      `import { existsSync } from 'node:fs'
      const before = await ledger.head()
      console.log('asked')
      while (!existsSync(${JSON.stringify(signal)}));
      const { revision } = await ledger.read('a')
      console.log(JSON.stringify([before, revision, await ledger.head()]))
      process.exit()`,
    )
    const { revision } = await ledger.commit(put('a', '1'), Deadline.never)
    writeFileSync(signal, '')
    const [answer] = await once(child.stdout ?? assert.fail(), 'data')
    assert.deepEqual(JSON.parse(String(answer)), [revision - 1, revision, revision])
    await once(child, 'exit')
  }))

test('who opened it for reading only neither commits nor follows', async () => {
  const path = mkdtempSync(join(tmpdir(), 'coffer-ledger-'))
  await new LmdbLedger(path).close()
  const ledger = new LmdbLedger(path, { readOnly: true })
  try {
    await assert.rejects(ledger.commit(put('a', '1'), Deadline.never), LedgerUnavailable)
    await assert.rejects(async () => {
      for await (const _ of ledger.follow(0)) assert.fail('nothing is there')
    }, LedgerUnavailable)
    assert.equal(await ledger.head(), 0)
  } finally {
    await ledger.close()
    rmSync(path, { recursive: true })
  }
})

test('a reader that was killed while it read does not keep pages from being used again', () =>
  withLedger(async (ledger, path) => {
    await ledger.commit(put('a', '1'), Deadline.never)
    const readers = open({ path, encoding: 'binary', maxDbs: 4, overlappingSync: false })
    const child = await reader(path, `await ledger.head(); console.log('reads'); for (;;);`)
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    const isListed = (): boolean => new RegExp(`^\\s*${child.pid}\\b`, 'm').test(readers.readerList())
    assert.ok(isListed())
    await ledger.health()
    assert.ok(!isListed(), readers.readerList())
    await readers.close()
  }))

test('a file of another format is refused, for reading too, and left as it is', async () => {
  const path = mkdtempSync(join(tmpdir(), 'coffer-ledger-'))
  const writeFormat = async (format: Uint8Array | undefined): Promise<void> => {
    const env = open({ path, encoding: 'binary', maxDbs: 4, overlappingSync: false })
    const log = env.openDB<Uint8Array, number>({ name: 'log', encoding: 'binary' })
    await (format ? log.put(0, format) : log.remove(0))
    await env.close()
  }
  try {
    const ledger = new LmdbLedger(path)
    await ledger.commit(put('a', '1'), Deadline.never)
    await ledger.close()
    for (const [format, told] of [
      [
        undefined,
        /^the ledger has format 1, written by an earlier version; this version reads format 2 only$/,
      ],
      [Buffer.from('coffer ledger 3'), /^the ledger has format 3, written by a later version;/],
    ] as const) {
      await writeFormat(format)
      for (const readOnly of [false, true]) {
        assert.throws(
          () => new LmdbLedger(path, { readOnly }),
          (error) => error instanceof OperatorError && told.test(error.message),
        )
      }
    }
    await writeFormat(Buffer.from('coffer ledger 2'))
    const again = new LmdbLedger(path)
    assert.equal((await again.read('a')).revision, 1)
    await again.close()
    await writeFormat(undefined)
    assert.equal(verifyLedger(path), 0, 'it is not taken for damaged')
  } finally {
    rmSync(path, { recursive: true })
  }
})

test('LMDB never meets a full disk: a commit without room is refused before it is written', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'coffer-full-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', root])
  try {
    if (mounted.status !== 0) return t.skip('no right to mount a file system')
    const modules = ['./lmdb.ts', '../clock.ts'].map((each) => new URL(each, import.meta.url).href)
    const script = `
      import { LmdbLedger } from ${JSON.stringify(modules[0])}
      import { Deadline } from ${JSON.stringify(modules[1])}
      const ledger = new LmdbLedger(process.argv[1])
      const told = []
      for (const mebibytes of [1, 7, 1]) {
        const put = { key: 'k' + told.length, value: Buffer.alloc(mebibytes * 1024 * 1024) }
        told.push(await ledger.commit({ if: [], put: [put] }, Deadline.never).then(
          ({ revision }) => revision,
          ({ reason }) => reason,
        ))
      }
      console.log(JSON.stringify([told, await ledger.head()]))
      await ledger.close()`
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', script, join(root, 'ledger')],
      { encoding: 'utf8' },
    )
    assert.equal(stderr, '')
    assert.deepEqual(JSON.parse(stdout), [[1, 'disk-full', 2], 2])
  } finally {
    spawnSync('umount', ['-l', root])
    rmSync(root, { recursive: true, force: true })
  }
})
