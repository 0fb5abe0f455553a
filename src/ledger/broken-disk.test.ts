// A disk that fails a call of LMDB, injected by strace: the writes of ledger and replica end with a
// FatalError, and nothing hangs.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

const source = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href)

/**
 * Writes once, has the calls of all later writes fail as `argv[2]` says, and prints the outcomes of the
 * writes and of the close.
 */
const program = (open: string): string => `
import { spawn } from 'node:child_process'
import { isStrayRejection } from ${source('lmdb-transaction.ts')}
process.on('unhandledRejection', (reason) => {
  if (!isStrayRejection(reason)) throw reason
})
const { write, close } = await open(process.argv[1])
await write(1)
const flags = ['-f', '-o', '/dev/null', '-e', 'inject=' + process.argv[2], '-p', String(process.pid)]
const strace = spawn('strace', flags, { stdio: ['ignore', 'ignore', 'pipe'] })
for await (const text of strace.stderr) if (String(text).includes('attached')) break
const outcome = (done) => done.then(() => 'done', ({ name, message }) => name + ': ' + message)
const outcomes = []
for (let i = 2; i <= 6; i++) outcomes.push(await outcome(write(i)))
outcomes.push(await outcome(close()))
console.log(JSON.stringify(outcomes))
process.exit(0)

async function open(path) {
  ${open}
}
`

const PROGRAMS = {
  ledger: program(`
    const { LmdbLedger } = await import(${source('lmdb.ts')})
    const { Deadline } = await import(${source('../clock.ts')})
    const ledger = new LmdbLedger(path)
    const put = (i) => ({ if: [], put: [{ key: 'k' + i, value: Buffer.from('value') }] })
    return { write: (i) => ledger.commit(put(i), Deadline.never), close: () => ledger.close() }`),
  replica: program(`
    const { LmdbStore } = await import(${source('../replica/lmdb-store.ts')})
    const { batchOf, pagesOf } = await import(${source('../replica/store-contract.ts')})
    const store = new LmdbStore(path)
    const batch = (i) => batchOf(i, { pages: pagesOf(0, i - 1, 3, i) }, { pages: i })
    return { write: (i) => store.write(batch(i)), close: () => store.close() }`),
}

const mayTrace = spawnSync('strace', ['-o', '/dev/null', process.execPath, '--version']).status === 0

for (const [kind, code] of Object.entries(PROGRAMS)) {
  test(`${kind}: whichever call of a transaction fails, writes end with a fatal error and nothing hangs`, {
    skip: mayTrace ? false : 'strace is not here, or may not trace',
  }, () => {
    // Counted in each thread: the page that names the others is written last.
    const calls = ['fdatasync:error=EIO', ...[1, 2, 3, 4].map((nth) => `pwrite64:error=EIO:when=${nth}`)]
    let failed = 0
    for (const call of calls) {
      const dir = mkdtempSync(join(tmpdir(), 'coffer-broken-'))
      try {
        const program = ['--input-type=module', '--eval', code, '--', dir, call]
        const { error, stdout, stderr } = spawnSync(process.execPath, program, {
          encoding: 'utf8',
          timeout: 30_000,
          killSignal: 'SIGKILL',
        })
        assert.equal(error, undefined, `${call} hangs: ${stdout}${stderr}`)
        const outcomes: string[] = JSON.parse(stdout)
        const first = outcomes.findIndex((each) => each !== 'done')
        if (first < 0) continue
        failed++
        for (const each of outcomes.slice(first)) {
          assert.match(each, /^FatalError: .* cannot be written: .*(Input\/output error|MDB_PANIC)/)
          assert.ok(each.includes(dir), each)
        }
      } finally {
        rmSync(dir, { recursive: true })
      }
    }
    assert.ok(failed > 1, `${failed} calls failed`)
  })
}
