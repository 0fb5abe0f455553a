// A file is damaged where the check has seen damage. A check that was killed, or lacked memory or descriptors,
// says nothing about the file.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { seeded } from '../../test/sim/seed.ts'
import { Deadline } from '../clock.ts'
import { LmdbLedger } from '../ledger/lmdb.ts'
import { checkFile, NotChecked } from './check.ts'

/** COFFER_ROUNDS=300 for a long search. */
const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 12)
const CHECK = join(import.meta.dirname, 'check.ts')
const root = mkdtempSync(join(tmpdir(), 'coffer-check-'))
const path = join(root, 'ledger')
const file = join(path, 'data.mdb')

const shell = (text: string): [string, ...string[]] => ['/bin/sh', '-c', text, 'sh']
/** The check itself, under a limit of the shell. */
const limited = (limit: string): [string, ...string[]] => [
  ...shell(`${limit} && exec "$@"`),
  process.execPath,
  CHECK,
]

describe('the check of a file in a child process', () => {
  before(async () => {
    mkdirSync(path)
    const ledger = new LmdbLedger(path)
    for (let i = 0; i < 200; i++)
      await ledger.commit(
        { if: [], put: [{ key: `key/${i}`, value: Buffer.alloc(3000, i) }] },
        Deadline.never,
      )
    await ledger.close()
  })
  after(() => rmSync(root, { recursive: true }))

  const unknown: Record<string, readonly [program: [string, ...string[]], why: RegExp]> = {
    'killed while reading': [shell('echo reading >&2; kill -KILL $$'), /ended by SIGKILL/],
    'ended by an operator': [shell('echo reading >&2; kill -TERM $$'), /ended by SIGTERM/],
    'an error of the system': [shell('echo reading >&2; echo Too many open files >&2; exit 1'), /Too many/],
    'V8 without memory': [
      shell('echo reading >&2; echo "FATAL ERROR: JavaScript heap out of memory" >&2; kill -ABRT $$'),
      /ended by SIGABRT/,
    ],
    'no thread for the child': [shell('echo uv_thread_create failed >&2; kill -ABRT $$'), /ended by SIGABRT/],
    'exit 3 before the file is open': [shell('exit 3'), /ended with 3/],
    'an option that Node does not know': [[process.execPath, '--no-such-option', CHECK], /bad option/],
    'a program that does not exist': [[join(root, 'absent')], /ENOENT/],
    'a module that does not exist': [
      [process.execPath, join(root, 'absent.ts')],
      /ended with 1|Cannot find|v\d/,
    ],
    'no descriptors': [limited('ulimit -n 5'), /./],
    'no memory': [limited('ulimit -v 200000'), /./],
  }
  for (const [name, [program, why]] of Object.entries(unknown)) {
    test(`${name}: could not be checked, and nothing was touched`, async () => {
      const bytes = readFileSync(file)
      await assert.rejects(checkFile('ledger', path, { program }), (error) => {
        assert.ok(error instanceof NotChecked)
        assert.match(error.message, /^the ledger in .* could not be checked \(.+\); nothing was touched$/)
        assert.match(error.message, why)
        assert.match(String(error.hint), /free memory and file descriptors/)
        return true
      })
      assert.ok(readFileSync(file).equals(bytes))
    })
  }

  test('under any limit of memory or descriptors a whole file is whole, or could not be checked', async () => {
    const limits = [
      ...[6, 9, 12, 15, 18, 21, 24].map((n) => `ulimit -n ${n}`),
      ...[300, 600, 1000, 2000, 6000, 10_000, 20_000].map((n) => `ulimit -v ${n * 1000}`),
    ]
    let whole = 0
    for (const limit of limits) {
      const checked = await checkFile('ledger', path, { program: limited(limit) }).catch((error) => {
        assert.ok(error instanceof NotChecked, String(error))
      })
      assert.notEqual(checked?.whole, false, limit)
      if (checked?.whole) whole++
    }
    assert.ok(whole > 0 && whole < limits.length, `${whole} of ${limits.length}`)
  })

  test('a process without descriptors cannot check, and says so', () => {
    const script = `
      const { openSync } = await import('node:fs')
      const { checkFile } = await import(${JSON.stringify(CHECK)})
      try { for (;;) openSync('/dev/null') } catch {}
      const checked = await checkFile('ledger', ${JSON.stringify(path)}).catch((error) => error)
      process.stdout.write(String(checked.name))
      process.exit(0)`
    const { stdout } = spawnSync(
      '/bin/sh',
      ['-c', 'ulimit -n 40; exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', script],
      { encoding: 'utf8' },
    )
    assert.equal(stdout, 'NotChecked')
  })

  for (const signal of ['SEGV', 'BUS', 'ABRT']) {
    test(`death by SIG${signal} while reading is damage`, async () => {
      const checked = await checkFile('ledger', path, {
        program: shell(`echo reading >&2; kill -${signal} $$`),
      })
      assert.deepEqual(checked, { whole: false, reason: `reading the file ended by SIG${signal}` })
    })
  }

  test('exit 3 after the file was opened is damage, with its reason', async () => {
    const program = shell('echo reading >&2; echo revision 7 is missing >&2; exit 3')
    assert.deepEqual(await checkFile('ledger', path, { program }), {
      whole: false,
      reason: 'revision 7 is missing',
    })
  })

  test('a child that has said how it ends, and does not end, is not waited for', async () => {
    const stays = (text: string): [string, ...string[]] => shell(`${text}; exec sleep 600 >&2`)
    const whole = stays('echo reading >&2; echo ends with 0 >&2')
    assert.deepEqual(await checkFile('ledger', path, { program: whole }), { whole: true })
    const damaged = stays('echo reading >&2; echo revision 7 is missing >&2; echo ends with 3 >&2')
    const reason = 'revision 7 is missing'
    assert.deepEqual(await checkFile('ledger', path, { program: damaged }), { whole: false, reason })
    const failed = stays('echo reading >&2; echo Too many open files >&2; echo ends with 1 >&2')
    await assert.rejects(checkFile('ledger', path, { program: failed }), /\(Too many open files\)/)
  })

  test('a file that is cut off or empty is damaged; an absent file is whole', async () => {
    const other = join(root, 'other')
    mkdirSync(other)
    assert.deepEqual(await checkFile('ledger', other), { whole: true })
    for (const length of [0, 100, 8192, 100_000]) {
      writeFileSync(join(other, 'data.mdb'), readFileSync(file).subarray(0, length))
      for (const what of ['ledger', 'replica'] as const)
        assert.equal((await checkFile(what, other)).whole, false, `${what} of ${length} bytes`)
    }
    copyFileSync(file, join(other, 'data.mdb'))
    assert.deepEqual(await checkFile('ledger', other), { whole: true })
    assert.deepEqual(await checkFile('replica', other), {
      whole: false,
      reason: 'the database pages is missing',
    })
  })

  test('random damage never leaves the check without a result', async (t) => {
    const random = seeded()
    t.diagnostic(`COFFER_SEED=${random.seed}`)
    const whole = readFileSync(file)
    const other = join(root, 'random')
    mkdirSync(other)
    let found = 0
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = Buffer.from(whole)
      for (let page = 0; page < 3; page++) {
        // The first pages hold the roots of the trees.
        const at = random.below(random.below(2) === 0 ? 8 : whole.length >> 12) << 12
        const [from, count] =
          random.below(2) === 0 ? [at, 4096] : [at + random.below(64), 1 + random.below(16)]
        for (let i = 0; i < count; i++) bytes[from + i] = random.below(256)
      }
      writeFileSync(join(other, 'data.mdb'), bytes)
      if (!(await checkFile('ledger', other)).whole) found++
    }
    assert.ok(found > ROUNDS / 2, `${found} of ${ROUNDS}`)
  })

  test('the check ends with its signal, and throws its reason', async () => {
    const stop = new AbortController()
    const checking = checkFile('ledger', path, { program: shell('exec sleep 60'), signal: stop.signal })
    const reason = new Error('the node is stopping')
    setImmediate(() => stop.abort(reason))
    await assert.rejects(checking, reason)
  })
})
