// A power loss takes what the kernel has not flushed, and no copy of a file shows that: the kernel hands out
// unflushed pages, too. So the system calls of a process that commits are read, as strace lists them.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

const COMMITS = 5
const source = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href)

/** Commits one after the other; a line on stderr tells each acknowledgement. */
const PROGRAM = `
import { writeSync } from 'node:fs'
import { LmdbLedger } from ${source('lmdb.ts')}
import { Deadline } from ${source('../clock.ts')}
const ledger = new LmdbLedger(process.argv[1])
for (let i = 0; i < ${COMMITS}; i++) {
  await ledger.commit({ if: [], put: [{ key: 'k' + i, value: Buffer.from('value') }] }, Deadline.never)
  writeSync(2, 'acknowledged ' + i + '\\n')
}
await ledger.close()
`

/** Calls that write or flush, and those that tell which file a descriptor stands for. */
const CALLS = ['openat', 'pwrite64', 'pwritev', 'pwritev2', 'fdatasync', 'fsync', 'msync', 'write']

const mayTrace = spawnSync('strace', ['-o', '/dev/null', process.execPath, '--version']).status === 0

test('lmdb: a commit is acknowledged after its pages were flushed, and then the page that names them', {
  skip: mayTrace ? false : 'strace is not here, or may not trace',
}, () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-flush-'))
  try {
    const trace = join(dir, 'trace')
    const flags = ['-f', '-e', `trace=${CALLS.join(',')}`, '-o', trace]
    const program = [process.execPath, '--input-type=module', '--eval', PROGRAM, '--', join(dir, 'ledger')]
    const { status, stderr } = spawnSync('strace', [...flags, ...program], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    assert.equal(status, 0, stderr)
    assert.equal(acknowledgedAfterFlush(readFileSync(trace, 'utf8')), COMMITS)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

/** Reads a trace. Returns the count of acknowledgements; each must follow two flushes of its own. */
function acknowledgedAfterFlush(trace: string): number {
  const pages = new Set<string>()
  const meta = new Set<string>() // descriptors whose writes return flushed (O_DSYNC)
  let state: 'written' | 'flushed' | 'named' = 'written'
  let count = 0
  for (const line of trace.split('\n')) {
    const [, flags, opened] = /openat\(.*data\.mdb", ([A-Z_|]+).*= (\d+)$/.exec(line) ?? []
    if (opened !== undefined) (flags.includes('O_DSYNC') ? meta : pages).add(opened)
    const [, call, descriptor] = /(pwrite\w*|fdatasync|fsync)\((\d+)/.exec(line) ?? []
    if (call?.startsWith('pwrite') && pages.has(descriptor)) state = 'written'
    if (call?.startsWith('pwrite') && meta.has(descriptor) && state === 'flushed') state = 'named'
    if (/(fdatasync|fsync)( resumed|\().*= 0$/.test(line)) state = 'flushed'
    if (!line.includes('"acknowledged ')) continue
    assert.equal(state, 'named', `acknowledgement ${count} came when its pages were ${state}`)
    state = 'written'
    count++
  }
  return count
}
