// Backup and restore: every ledger into every other one, damage of every kind, and restores that were interrupted.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  BOOT,
  backupOf,
  entriesOf,
  epoch,
  filled,
  framesOf,
  genesisOf,
  IDENTITY,
  keyring,
  MAC_BYTES,
  mixed,
  put,
  restored,
  segment,
  verified,
  version,
  writer,
} from '../../test/backup/backups.ts'
import { type Clock, Deadline, systemClock } from '../clock.ts'
import {
  COMMIT_BYTES,
  type Commit,
  type CommitResult,
  Compacted,
  commitBytes,
  type Ledger,
} from '../ledger/ledger.ts'
import { LmdbLedger } from '../ledger/lmdb.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { decodeEntry, encodeEntry } from '../state/entries.ts'
import { compareKeys, ledgerKey } from '../state/ledger-keys.ts'
import { LEDGER_FORMAT, OtherFormat } from '../state/writer.ts'
import { verifyBackup } from './backup.ts'
import { EntryDigest } from './entry-digest.ts'
import { BackupError, BackupWriter } from './file.ts'

/** Keys that a snapshot of the embedded ledger does not read at once. */
const BETWEEN = 2500
const NEWER = /^OtherFormat: the (ledger|backup) has format 3, written by a later version/

async function withFolder(run: (path: string) => Promise<void>): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), 'coffer-backup-'))
  try {
    await run(path)
  } finally {
    rmSync(path, { recursive: true })
  }
}

/** The same entries; the genesis differs in its identity, which is returned, and in nothing else. */
async function assertSame(from: Ledger, to: Ledger): Promise<string> {
  const [before, after] = [await entriesOf(from), await entriesOf(to)]
  const [first, second] = [before, after].map((entries) => {
    const found = decodeEntry(ledgerKey.genesis, Buffer.from(entries.get(ledgerKey.genesis) ?? '', 'hex'))
    entries.delete(ledgerKey.genesis)
    assert.ok(found?.kind === 'genesis')
    return found
  })
  assert.deepEqual(after, before)
  assert.deepEqual({ ...second, identity: '' }, { ...first, identity: '' })
  assert.notEqual(second.identity, first.identity)
  assert.match(second.identity, /^[0-9a-f]{32}$/)
  return second.identity
}

test('what was backed up is there again, under another identity', () =>
  withFolder(async (path) => {
    const memory = await filled(300)
    const lmdb = new LmdbLedger(join(path, 'one'))
    const { bytes, written } = await backupOf(memory)
    assert.equal(await restored(bytes, lmdb), await assertSame(memory, lmdb))
    const again = new MemoryLedger()
    const second = await backupOf(lmdb)
    await restored(second.bytes, again)
    await assertSame(memory, again)
    assert.deepEqual([written.entries, written.mappings, written.revision], [304, 3000, 303])
    assert.equal(written.identity, IDENTITY)
    assert.equal(written.bytes, bytes.length)
    for (const name of ['digest', 'entries', 'mappings'] as const)
      assert.equal(second.written[name], written[name])
    const { genesis: _genesis, wrappedKey: _key, rootKeys, ...read } = await verified(bytes)
    assert.deepEqual([...rootKeys], [[keyring.active, 1]])
    const { foreign, ...told } = written
    assert.deepEqual([read, foreign], [told, 0])
    await lmdb.close()
  }))

test('the genesis is put last, in commits of bounded size', async () => {
  const { bytes } = await backupOf(await filled(200))
  const ledger = new MemoryLedger()
  const commits: Commit[] = []
  const commit = ledger.commit.bind(ledger)
  ledger.commit = (one, deadline) => {
    commits.push(one)
    return commit(one, deadline)
  }
  await restored(bytes, ledger)
  assert.deepEqual(
    commits.at(-1)?.put.map(({ key }) => key),
    [ledgerKey.genesis],
  )
  assert.equal(commits.length, 1 + Math.ceil(203 / 64))
  const large = await filled(0)
  for (let n = 1; n <= 40; n++) await put(large, [ledgerKey.segment(BOOT, n), segment('o', n * 4000, 3900)])
  commits.length = 0
  const second = new MemoryLedger()
  second.commit = (one, deadline) => {
    commits.push(one)
    return MemoryLedger.prototype.commit.call(second, one, deadline)
  }
  await restored((await backupOf(large)).bytes, second)
  assert.ok(commits.length < 12)
  for (const one of commits) assert.ok(commitBytes(one) <= COMMIT_BYTES)
})

test('equal mappings count once, as in a replica', async () => {
  const ledger = await filled()
  const plain = (await backupOf(ledger)).written
  await put(ledger, [ledgerKey.segment(BOOT, 9), segment('o', 15, 10)])
  const { bytes, written } = await backupOf(ledger)
  assert.deepEqual([plain.mappings, written.mappings, written.entries], [30, 30, plain.entries + 1])
  assert.equal(written.digest, plain.digest)
  await restored(bytes, new MemoryLedger())
  await put(ledger, [ledgerKey.segment(BOOT, 10), segment('o', 5, 10)])
  const more = (await backupOf(ledger)).written
  assert.equal(more.mappings, 35)
  assert.notEqual(more.digest, plain.digest)
})

test('what nodes say of themselves is left out: in another ledger it would be of nodes that are not there', async () => {
  const ledger = await filled()
  const before = (await backupOf(ledger)).written
  const about = { kind: 'node', node: 'n9', fields: 'ab', rootKeys: ['rk-1'], active: 'rk-1' } as const
  await put(ledger, [ledgerKey.node('n9'), encodeEntry(about, writer)])
  const { bytes, written } = await backupOf(ledger)
  assert.deepEqual([written.entries, written.foreign, written.digest], [before.entries, 0, before.digest])
  const target = new MemoryLedger()
  await restored(bytes, target)
  assert.equal((await target.read(ledgerKey.node('n9'))).revision, 0)
})

test('history that is gone while it is read ends a backup, and is no end of a restore', async () => {
  const source = await filled(100)
  const { bytes } = await backupOf(source)
  const compacting = (ledger: Ledger, times: number): Ledger => {
    const snapshot = ledger.snapshot.bind(ledger)
    ledger.snapshot = async (ranges) => {
      const { revision, entries } = await snapshot(ranges)
      return { revision, entries: times-- > 0 ? cut(entries) : entries }
    }
    return ledger
  }
  await assert.rejects(backupOf(compacting(source, 1)), (error) => error instanceof BackupError)
  const target = compacting(new MemoryLedger(), 2)
  await put(target, ['foreign', Buffer.from('x')])
  await restored(bytes, target)
  assert.equal((await backupOf(target)).written.mappings, 1000)
})

async function* cut<T>(entries: AsyncIterable<T>): AsyncIterable<T> {
  for await (const entry of entries) {
    yield entry
    throw new Compacted('the revision is gone')
  }
}

test('foreign keys are left out and counted; in the new ledger they do no harm', async () => {
  const ledger = await filled()
  const { bytes } = await backupOf(ledger)
  await put(ledger, ['other/key', Buffer.from('x')], ['z', Buffer.from('y')])
  const { written, bytes: second } = await backupOf(ledger)
  assert.deepEqual([written.foreign, written.entries], [2, 7])
  assert.equal(second.length, bytes.length)
  const target = new MemoryLedger()
  await put(target, ['mine', Buffer.from('z')])
  await restored(second, target)
  assert.deepEqual(
    [...(await entriesOf(target)).keys()].filter((key) => !/^[gbeks]/.test(key)),
    ['mine'],
  )
})

/** Where each frame begins, and after the last one where the HMAC does. */
function starts(bytes: Buffer): number[] {
  return [...framesOf(bytes).map(({ start }) => start), bytes.length - MAC_BYTES]
}

test('a backup with any byte changed is refused, and told where', async () => {
  const { bytes } = await backupOf(await filled(2))
  const places = starts(bytes)
  for (let at = 0; at < bytes.length; at++) {
    const part = places.findLastIndex((start) => start <= at)
    const where =
      part < 0
        ? /not a backup|has format/
        : part === places.length - 1
          ? /authentication code/
          : new RegExp(`${part === 0 ? 'the head' : `part ${part}`}, at byte ${places[part]},`)
    for (const bits of [1, 128, 255]) {
      bytes[at] ^= bits
      await assert.rejects(verified(bytes), (error) => {
        assert.ok(error instanceof BackupError || error instanceof OtherFormat, `byte ${at}`)
        // A length within bounds leads the reader to the wrong place, or past the end.
        const isLength = part >= 0 && at - places[part] >= 1 && at - places[part] < 5
        if (!isLength || !/cut off/.test(error.message)) assert.match(error.message, where, `byte ${at}`)
        return true
      })
      bytes[at] ^= bits
    }
  }
  await verified(bytes)
})

test('a backup that is cut anywhere, or goes on after its end, is refused', async () => {
  const { bytes } = await backupOf(await filled(2))
  for (let length = 0; length < bytes.length; length++) {
    const cut = verified(bytes.subarray(0, length))
    await assert.rejects(cut, length < 16 ? /not a backup/ : /cut off/, `${length} bytes`)
  }
  await assert.rejects(verified(Buffer.concat([bytes, Buffer.of(0)])), /bytes follow its end/)
})

test('a part that is missing, twice or elsewhere is refused, though its checksum fits', async () => {
  const entries = [...(await entriesOf(await filled(3)))].map(([key, hex]) => ({
    key,
    value: Buffer.from(hex, 'hex'),
  }))
  const written = (await backupOf(await filled(3))).written
  const made = async (list: typeof entries, change: Partial<typeof written> = {}): Promise<Buffer> => {
    const chunks: Uint8Array[] = []
    const out = new BackupWriter(async (chunk) => chunks.push(chunk))
    await out.head({ ...written, ...change }, keyring, systemClock)
    for (const entry of list.toSorted((a, b) => compareKeys(a.key, b.key))) await out.entry(entry)
    await out.end({ ...written, ...change })
    return Buffer.concat(chunks)
  }
  await verified(await made(entries))
  const refused = async (bytes: Buffer, why: RegExp | object): Promise<void> => {
    await assert.rejects(verified(bytes), why)
  }
  await refused(await made(entries.slice(1)), /malformed or misplaced/)
  const entriesLess = { entries: entries.length - 1 }
  await refused(await made(entries.slice(1), entriesLess), /no genesis/)
  await refused(await made(entries.slice(0, -1), entriesLess), /digest/)
  await refused(await made(entries, { mappings: 31 }), /digest/)
  await refused(await made(entries, { digest: '0'.repeat(64) }), /digest/)
  await refused(await made(entries, { identity: '0'.repeat(32) }), /no genesis/)
  await refused(await made(entries, { format: 3 }), NEWER)
  await refused(
    await made(entries, { format: 1 }),
    /^OtherFormat: the backup has format 1, written by an earlier/,
  )
  const foreign = [...entries.slice(0, -1), { key: 'other', value: Buffer.from('x') }]
  await refused(await made(foreign), /an entry that no backup holds: "other"/)
  const ofNode = [...entries.slice(0, -1), { key: ledgerKey.node('n1'), value: entries[1].value }]
  await refused(await made(ofNode), /an entry that no backup holds/)
  const corrupt = [...entries.slice(0, -1), { key: ledgerKey.epoch('p'), value: Buffer.from('x') }]
  await refused(await made(corrupt), /an entry is shorter than its header/)
})

test('parts that have changed places are told', async () => {
  const { bytes } = await backupOf(await filled(3))
  const places = starts(bytes)
  // The last three are segments of one length, then the end.
  const [one, two, three] = places.slice(-5)
  const swapped = Buffer.concat([
    bytes.subarray(0, one),
    bytes.subarray(two, three),
    bytes.subarray(one, two),
    bytes.subarray(three),
  ])
  const part = places.indexOf(one)
  await assert.rejects(verified(swapped), new RegExp(`part ${part}, at byte ${one}, does not match`))
})

test('a length is refused before anything of that length is read', async () => {
  const { bytes } = await backupOf(await filled(2))
  let read = 0
  async function* endless(): AsyncGenerator<Uint8Array> {
    yield bytes.subarray(0, 16)
    yield Buffer.from('01ffffffff00000000', 'hex')
    for (; read < 1000; read++) yield new Uint8Array(1024 * 1024)
  }
  await assert.rejects(verifyBackup(endless(), { keyring }), /bad kind or length/)
  assert.equal(read, 0)
})

/** A ledger whose process ends after so many commits. */
class Dying implements Pick<Ledger, 'commit'> {
  readonly ledger = new MemoryLedger()
  left = Number.POSITIVE_INFINITY

  constructor() {
    const commit = this.ledger.commit.bind(this.ledger)
    this.ledger.commit = async (one, deadline): Promise<CommitResult> => {
      if (this.left-- <= 0) throw new Error('the process has ended')
      return commit(one, deadline)
    }
  }

  commit(one: Commit): Promise<CommitResult> {
    return this.ledger.commit(one, Deadline.never)
  }
}

test('a restore that was interrupted leaves no genesis, and the same one again finishes it', async () => {
  const source = await filled(500)
  const { bytes } = await backupOf(source)
  const target = new Dying()
  for (let commits = 0; commits < 9; commits++) {
    target.left = commits
    await assert.rejects(restored(bytes, target.ledger), /the process has ended/)
    assert.equal((await target.ledger.read(ledgerKey.genesis)).revision, 0)
    const there = (await entriesOf(target.ledger)).size
    assert.ok(commits === 0 ? there === 0 : there > 0)
  }
  target.left = Number.POSITIVE_INFINITY
  await restored(bytes, target.ledger)
  await assertSame(source, target.ledger)
})

test('a restore of which some entries arrived and others not is finished', async () => {
  const source = await filled(100)
  const { bytes } = await backupOf(source)
  const target = new MemoryLedger()
  const all = [...(await entriesOf(source))].filter(([key]) => key !== ledgerKey.genesis)
  for (const [i, [key, hex]] of all.entries())
    if (i % 3 === 0) await put(target, [key, Buffer.from(hex, 'hex')])
  await restored(bytes, target)
  await assertSame(source, target)
})

test('what may or may not have happened is sent again', async () => {
  const source = await filled(500)
  const { bytes } = await backupOf(source)
  const target = new MemoryLedger()
  target.faults.push('none', 'lost', 'answer-lost', 'late', 'refuse', 'answer-lost', 'lost', 'late')
  await restored(bytes, target)
  target.settle()
  await assertSame(source, target)
  const again = new MemoryLedger()
  const small = (await backupOf(await filled(1))).bytes
  // The first commit has all entries; the second one is the genesis.
  again.faults.push('none', 'answer-lost')
  const identity = await restored(small, again)
  assert.equal(await assertSame(await filled(1), again), identity)
})

test('a ledger that stays away ends the restore, and the same one again goes on', async () => {
  const source = await filled(200)
  const { bytes } = await backupOf(source)
  const target = new MemoryLedger()
  let now = 0
  const clock: Clock = { ...systemClock, monotonic: () => (now += 10_000) }
  target.faults.push('none', ...new Array<'lost'>(60).fill('lost'))
  await assert.rejects(restored(bytes, target, { clock }), (error) => {
    assert.ok(error instanceof BackupError)
    assert.match(error.message, /lost on the way/)
    assert.match(error.hint, /run the same restore again to continue/)
    return true
  })
  target.faults.length = 0
  await restored(bytes, target)
  await assertSame(source, target)
})

test('a ledger that is not empty is refused, and nothing in it is touched', async () => {
  const { bytes } = await backupOf(await filled(3))
  const others: Record<string, Ledger> = {
    'another vault': await filled(1),
    'an entry of another vault': new MemoryLedger(),
    'another entry under a key of the backup': new MemoryLedger(),
  }
  await put(others['an entry of another vault'], epoch('other', 1))
  await put(others['another entry under a key of the backup'], epoch('o', 2))
  for (const [name, ledger] of Object.entries(others)) {
    const before = await entriesOf(ledger)
    const head = await ledger.head()
    await assert.rejects(restored(bytes, ledger), /the ledger is not empty/, name)
    const after = await entriesOf(ledger)
    for (const [key, value] of before) assert.equal(after.get(key), value, name)
    if (name !== 'another entry under a key of the backup') assert.equal(await ledger.head(), head, name)
    if (!before.has(ledgerKey.genesis)) assert.ok(!after.has(ledgerKey.genesis), name)
  }
})

test('what somebody else writes meanwhile is found before the genesis is put', async () => {
  const { bytes } = await backupOf(await filled(3))
  for (const intruder of [
    epoch('other', 1),
    [
      ledgerKey.boot('b'.repeat(32)),
      encodeEntry({ kind: 'boot', boot: 'b'.repeat(32), node: 'x' }, writer),
    ] as const,
  ]) {
    const target = new MemoryLedger()
    const commit = target.commit.bind(target)
    target.commit = async (one, deadline) => {
      const result = await commit(one, deadline)
      await commit({ if: [], put: [{ key: intruder[0], value: intruder[1] }] }, deadline)
      return result
    }
    await assert.rejects(restored(bytes, target), /the ledger does not match the backup/)
    assert.equal((await target.read(ledgerKey.genesis)).revision, 0)
  }
})

test('a ledger without genesis, or of a newer format, is not backed up', async () => {
  await assert.rejects(backupOf(new MemoryLedger()), /no genesis/)
  const newer = new MemoryLedger()
  await put(newer, [ledgerKey.genesis, genesisOf(LEDGER_FORMAT + 1)])
  await assert.rejects(backupOf(newer), NEWER)
  const corrupt = await filled(1)
  await put(corrupt, [ledgerKey.epoch('p'), Buffer.from('x')])
  await assert.rejects(backupOf(corrupt), /shorter than its header/)
})

test('entries of every size are of one revision, whatever is written while they are read', async () => {
  const ledger = await mixed(new MemoryLedger())
  let writes = 0
  // Keys that are read already and keys still to be read, old and new.
  const meanwhile = async (): Promise<void> => {
    writes++
    await put(
      ledger,
      epoch('owner-0', 2 + writes),
      [ledgerKey.segment(BOOT, 5000 + writes), segment('o', writes, 10)],
      version('small-0', 1 + writes),
      version(`a-new-one-${writes}`, 1),
      version(`z-new-one-${writes}`, 1, 64 * 1024 + 28),
    )
  }
  const before = await entriesOf(ledger)
  const { bytes, written } = await backupOf(ledger, { meanwhile })
  assert.ok(writes >= 8, 'the file is written in parts')
  assert.equal(written.entries, before.size)
  assert.equal(written.digest, await digestAt(ledger, written.revision))
  const target = new MemoryLedger()
  await restored(bytes, target)
  const after = await entriesOf(target)
  for (const entries of [before, after]) entries.delete(ledgerKey.genesis)
  assert.deepEqual(after, before)
})

// ---- while another process writes

/**
 * Writes epochs of the owners `a` and `z` in one commit each, and segments, until it is killed. There are so many
 * owners between the two that a snapshot does not read them together.
 */
const WRITER = `
import { Deadline } from ${JSON.stringify(new URL('../clock.ts', import.meta.url).href)}
import { LmdbLedger } from ${JSON.stringify(new URL('../ledger/lmdb.ts', import.meta.url).href)}
const [path, entries] = process.argv.slice(1)
const { genesis, epoch, segments } = JSON.parse(entries)
const ledger = new LmdbLedger(path)
const puts = [{ key: 'genesis', value: Buffer.from(genesis, 'hex') }]
for (let i = 0; i < ${BETWEEN}; i++) puts.push({ key: 'epoch/m' + i, value: Buffer.from(epoch, 'hex') })
await ledger.commit({ if: [], put: puts }, Deadline.never)
for (let n = 1; ; n++) {
  const active = Buffer.from(epoch, 'hex').toString('latin1').replace('"active":1', '"active":' + n)
  const pair = ['a', 'z'].map((owner) => ({ key: 'epoch/' + owner, value: Buffer.from(active, 'latin1') }))
  const key = 'seg/${BOOT}/' + String(n).padStart(10, '0')
  const value = Buffer.from(segments[n % segments.length], 'hex')
  await ledger.commit({ if: [], put: [...pair, { key, value }] }, Deadline.never)
  if (n === 200) console.log('writing')
}`

async function writing(path: string): Promise<ChildProcess> {
  const entries = JSON.stringify({
    genesis: Buffer.from(genesisOf()).toString('hex'),
    epoch: Buffer.from(epoch('a', 1)[1]).toString('hex'),
    segments: [10, 20, 30].map((first) => Buffer.from(segment('a', first, 40)).toString('hex')),
  })
  const child = spawn(process.execPath, ['--input-type=module', '-e', WRITER, path, entries], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout ?? assert.fail(), 'data')
  return child
}

async function killed(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

test('a backup made while another process writes is one revision of its ledger', () =>
  withFolder(async (path) => {
    const child = await writing(path)
    const reading = new LmdbLedger(path, { readOnly: true })
    const made: Awaited<ReturnType<typeof backupOf>>[] = []
    try {
      await assert.rejects(
        reading.commit({ if: [], put: [{ key: 'a', value: genesisOf() }] }, Deadline.never),
        /reading only/,
      )
      for (let i = 0; i < 5; i++) {
        const head = await reading.head()
        made.push(await backupOf(reading))
        assert.ok(made[i].written.revision >= head)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    } finally {
      await reading.close()
      await killed(child)
    }
    const revisions = made.map(({ written }) => written.revision)
    assert.equal(new Set(revisions).size, 5, `the writer wrote on: ${revisions}`)
    const ledger = new LmdbLedger(path)
    for (const { bytes, written } of made) {
      const target = new MemoryLedger()
      await restored(bytes, target)
      const entries = await entriesOf(target)
      // The genesis was revision 1; the pair of revision n + 1 says n.
      for (const owner of ['a', 'z']) {
        const found = decodeEntry(
          ledgerKey.epoch(owner),
          Buffer.from(entries.get(ledgerKey.epoch(owner)) ?? '', 'hex'),
        )
        assert.ok(found?.kind === 'epoch')
        assert.equal(found.active, written.revision - 1)
      }
      assert.equal(entries.size, 1 + BETWEEN + 2 + written.revision - 1)
      assert.equal((await backupOf(target)).written.digest, written.digest)
      assert.equal(written.digest, await digestAt(ledger, written.revision))
    }
    await ledger.close()
  }))

/** Of what the history up to a revision leaves. */
async function digestAt(ledger: Ledger, revision: number): Promise<string> {
  const live = new Map<string, Uint8Array>()
  for await (const each of ledger.follow(0)) {
    for (const { key, value } of each.puts) if (value) live.set(key, value)
    if (each.revision === revision) break
  }
  const contents = new EntryDigest()
  for (const [key, value] of live) contents.add(key, value)
  return contents.digest()
}
