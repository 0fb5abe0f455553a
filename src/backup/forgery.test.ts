// Backups that somebody without the keyring has changed, with every checksum, count and digest computed again.
import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  backupOf,
  bytesOf,
  endFrame,
  entriesOf,
  entryFrame,
  entryOf,
  epoch,
  type Frame,
  filled,
  framesOf,
  KIND,
  keyring,
  MAC_BYTES,
  MAGIC_BYTES,
  put,
  restored,
  sealed,
  verified,
  version,
} from '../../test/backup/backups.ts'
import { seeded } from '../../test/sim/seed.ts'
import { systemClock } from '../clock.ts'
import { Keyring, newRootKey, UnknownRootKey } from '../crypto/keyring.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { decodeEntry, encodeEntry } from '../state/entries.ts'
import { compareKeys, ledgerKey } from '../state/ledger-keys.ts'
import { decodeWriter } from '../state/writer.ts'
import { type BackupEntry, BackupError, BackupWriter, DamagedBackup } from './file.ts'

/** Three versions of a secret, and what every ledger has. */
async function withSecret(): Promise<Ledger> {
  const ledger = await filled(4)
  for (let number = 1; number <= 3; number++) await put(ledger, version('app/DB_URL', number))
  return ledger
}

type Parts = Pick<Frame, 'kind' | 'body'>[]

/** The last 32 bytes that somebody without the keyring can think of. */
function guessedCodes(file: Buffer, original: Buffer): Buffer[] {
  const [head] = framesOf(original)
  const [, wrapped] = /"key":"([^"]+)"/.exec(head.body.toString('latin1')) ?? assert.fail('a key')
  const keys = ['', Buffer.alloc(32), wrapped, Buffer.from(wrapped, 'base64')]
  return [
    original.subarray(-MAC_BYTES),
    createHash('sha256').update(file).digest(),
    Buffer.alloc(MAC_BYTES),
    ...keys.map((key) => createHmac('sha256', key).update(file).digest()),
  ]
}

/** By the verification, and by the writing pass where the right file was verified. */
async function refused(parts: Parts, original: Buffer, why: RegExp): Promise<void> {
  const file = bytesOf(parts)
  for (const code of guessedCodes(file, original)) {
    const forged = Buffer.concat([file, code])
    await assert.rejects(verified(forged), (error) => {
      assert.ok(error instanceof DamagedBackup)
      assert.match(error.message, why)
      return true
    })
    const ledger = new MemoryLedger()
    await assert.rejects(restored(original, ledger, { again: forged }), /the backup has changed since/)
    assert.equal((await ledger.read(ledgerKey.genesis)).value, null)
  }
}

/** The parts of a backup of other entries: with the old head, and an end that fits. */
function withEntries(original: Buffer, change: (entries: BackupEntry[]) => BackupEntry[]): Parts {
  const frames = framesOf(original)
  const entries = change(frames.filter(({ kind }) => kind === KIND.entry).map(entryOf))
  return [frames[0], ...entries.map(entryFrame), endFrame(entries)]
}

function later(entry: BackupEntry): BackupEntry {
  const decoded = decodeEntry(entry.key, entry.value)
  if (decoded?.kind !== 'version') return entry
  const moved = { ...decoded, validFrom: decoded.validFrom + 1 }
  return { key: entry.key, value: encodeEntry(moved, decodeWriter(entry.value)) }
}

test('without the newest version of a secret, with other times: refused', async () => {
  const { bytes } = await backupOf(await withSecret())
  const newest = ledgerKey.version('o', 'app/DB_URL', 3)
  const code = /not the authentication code/
  const dropped = withEntries(bytes, (entries) => entries.filter(({ key }) => key !== newest))
  assert.equal(dropped.length, framesOf(bytes).length - 1)
  await refused(dropped, bytes, code)
  const times = withEntries(bytes, (entries) => entries.map(later))
  assert.notDeepEqual(bytesOf(times), bytes.subarray(0, -MAC_BYTES))
  await refused(times, bytes, code)
  const both = withEntries(bytes, (entries) => entries.filter(({ key }) => key !== newest).map(later))
  await refused(both, bytes, code)
  // The same steps without a change give the file again: the steps are right.
  const same = withEntries(bytes, (entries) => entries)
  assert.deepEqual(bytesOf(same), bytes.subarray(0, -MAC_BYTES))
})

test('with an entry more, an older epoch, entries in another order: refused', async () => {
  const { bytes } = await backupOf(await withSecret())
  const [addedKey, added] = epoch('p', 9)
  const more = withEntries(bytes, (entries) =>
    [...entries, { key: addedKey, value: added }].toSorted((a, b) => compareKeys(a.key, b.key)),
  )
  await refused(more, bytes, /not the authentication code/)
  const [epochKey, older] = epoch('o', 3)
  const changed = withEntries(bytes, (entries) =>
    entries.map((entry) => (entry.key === epochKey ? { key: epochKey, value: older } : entry)),
  )
  await refused(changed, bytes, /not the authentication code/)
  const frames = framesOf(bytes)
  const swapped = frames.toSpliced(-3, 2, frames[frames.length - 2], frames[frames.length - 3])
  await refused(swapped, bytes, /part \d+ is malformed or misplaced/)
})

test('entries out of order or twice are damage, whoever has written them', async () => {
  const { bytes } = await backupOf(await withSecret())
  const frames = framesOf(bytes)
  assert.deepEqual(sealed(frames), bytes)
  const last = frames.length - 2
  for (const [first, second] of [
    [last, last - 1],
    [2, 1],
    [last, 1],
  ]) {
    const parts = frames.with(first, frames[second]).with(second, frames[first])
    const part = Math.min(first, second) + 1
    await assert.rejects(verified(sealed(parts)), new RegExp(`part ${part} is malformed or misplaced`))
  }
  const twice = frames.toSpliced(last, 0, frames[last])
  await assert.rejects(verified(sealed(twice)), new RegExp(`part ${last + 1} is malformed or misplaced`))
})

test('an end or a head of another backup, and parts of two backups: refused', async () => {
  const ledger = await withSecret()
  const { bytes: older } = await backupOf(ledger)
  await put(ledger, version('app/DB_URL', 4))
  const { bytes: newer } = await backupOf(ledger)
  const [one, two] = [framesOf(older), framesOf(newer)]
  const code = /not the authentication code/
  await refused([...two.slice(0, -1), ...one.slice(-1)], newer, code)
  await refused([...one.slice(0, 1), ...two.slice(1)], newer, code)
  await refused([...two.slice(0, 1), ...one.slice(1)], newer, code)
  await refused([...two.slice(0, 5), ...one.slice(5)], newer, code)
  // The key of the older backup does not open beside the facts of the newer one.
  const key = /"key":"[^"]+"/
  const [oldKey] = key.exec(one[0].body.toString('latin1')) ?? assert.fail('a key')
  const mixed = Buffer.from(two[0].body.toString('latin1').replace(key, oldKey))
  await refused([{ kind: KIND.head, body: mixed }, ...two.slice(1)], newer, /its head matches its checksum/)
})

test('a head that says something else: refused', async () => {
  const { bytes } = await backupOf(await withSecret())
  const [{ body }, ...rest] = framesOf(bytes)
  const text = body.toString('latin1')
  for (const [from, to] of [
    [/"revision":\d+/, '"revision":1'],
    [/"identity":"\w+"/, `"identity":"${'0'.repeat(32)}"`],
    [/"made_at":"\d{4}/, '"made_at":"2019'],
  ] as const) {
    const changed = text.replace(from, to)
    assert.notEqual(changed, text)
    const parts = [{ kind: KIND.head, body: Buffer.from(changed) }, ...rest]
    await refused(parts, bytes, /its head matches its checksum/)
  }
})

test("under somebody else's keyring: the missing root key is named", async () => {
  const { bytes } = await backupOf(await withSecret())
  const stranger = Keyring.create(systemClock)
  const frames = framesOf(bytes)
  const chunks: Uint8Array[] = []
  const forger = new BackupWriter(async (chunk) => chunks.push(chunk))
  const { revision, identity, format, made_at: madeAt } = JSON.parse(frames[0].body.toString('latin1'))
  await forger.head({ revision, identity, format, madeAt }, stranger, systemClock)
  const entries = frames.filter(({ kind }) => kind === KIND.entry).map(entryOf)
  for (const entry of entries) await forger.entry(entry)
  const end = framesOf(bytes).at(-1)?.body ?? assert.fail('an end')
  const digest = end.toString('hex', 16)
  await forger.end({ entries: entries.length, mappings: Number(end.readBigUInt64BE(8)), digest })
  const forged = Buffer.concat(chunks)
  await assert.rejects(verified(forged), (error) => {
    assert.ok(error instanceof UnknownRootKey)
    assert.equal(error.rootKey, stranger.active)
    return true
  })
  await verified(forged, stranger)
  // The id of the right root key over the stranger's bytes.
  const renamed = Buffer.from(forged)
  const head = framesOf(renamed)[0].body.toString('latin1')
  const key = Buffer.from(/"key":"([^"]+)"/.exec(head)?.[1] ?? '', 'base64')
  key.write(keyring.active, 2, 'latin1')
  const body = Buffer.from(head.replace(/"key":"[^"]+"/, `"key":"${key.toString('base64')}"`))
  await refused([{ kind: KIND.head, body }, ...frames.slice(1)], bytes, /its head matches its checksum/)
})

test('another root key, activated later, still opens an older backup; its removal does not', async () => {
  const ledger = await withSecret()
  const { bytes } = await backupOf(ledger)
  const added = newRootKey(systemClock)
  const both = keyring.add(added).activate(added.id)
  await verified(bytes, both)
  const { bytes: later } = await backupOf(ledger, { ring: both })
  await assert.rejects(verified(later), UnknownRootKey)
  await assert.rejects(verified(bytes, both.remove(keyring.active)), UnknownRootKey)
})

test('flipped bits and bytes at random places, with the checksums of frames computed again', async () => {
  const random = seeded()
  const { bytes } = await backupOf(await withSecret())
  const frames = framesOf(bytes)
  for (let round = 0; round < 500; round++) {
    const parts = frames.map(({ kind, body }) => ({ kind, body: Buffer.from(body) }))
    const { body } = random.pick(parts)
    const at = random.below(body.length)
    body[at] ^= 1 + random.below(255)
    const forged = Buffer.concat([bytesOf(parts), bytes.subarray(-MAC_BYTES)])
    const seen = (error: unknown): boolean => error instanceof BackupError || error instanceof UnknownRootKey
    await assert.rejects(verified(forged), seen, `COFFER_SEED=${random.seed}, round ${round}`)
  }
})

test('cut at every boundary of frames, with an end that fits or without, and continued', async () => {
  const { bytes } = await backupOf(await withSecret())
  const frames = framesOf(bytes)
  for (let count = 0; count < frames.length; count++) {
    const cut = frames.slice(0, count)
    await assert.rejects(verified(bytesOf(cut)), /cut off/)
    await assert.rejects(verified(Buffer.concat([bytesOf(cut), bytes.subarray(-MAC_BYTES)])), BackupError)
    if (count === 0 || count === frames.length - 1) continue
    const entries = cut.slice(1).map(entryOf)
    await refused([...cut, endFrame(entries)], bytes, /not the authentication code/)
  }
  const last = frames[frames.length - 1]
  await refused([...frames, last], bytes, /not the authentication code/)
  await refused([...frames.slice(0, -1), frames[1], last], bytes, /malformed or misplaced/)
  await refused([...frames, frames[1]], bytes, /not the authentication code/)
  const whole = Buffer.concat([bytes, bytesOf([last]).subarray(MAGIC_BYTES)])
  await assert.rejects(verified(whole), /bytes follow its end/)
  await assert.rejects(verified(Buffer.concat([bytes, Buffer.of(0)])), /bytes follow its end/)
})

test('a backup of format 1 is refused by its format', async () => {
  const file = join(import.meta.dirname, '../../test/upgrade/format-1/node.backup')
  await assert.rejects(
    verified(readFileSync(file)),
    /^OtherFormat: the backup has format 1, written by an earlier version; this version reads format 2 only: /,
  )
})

test('a file that is exchanged between the check and the restore leaves no ledger to start with', async () => {
  const ledger = await withSecret()
  const { bytes } = await backupOf(ledger)
  const { bytes: other } = await backupOf(ledger)
  const target = new MemoryLedger()
  await assert.rejects(restored(bytes, target, { again: other }), /the file is another backup/)
  assert.equal((await entriesOf(target)).size, 0)
  const [cut] = [bytes.subarray(0, -MAC_BYTES)]
  await assert.rejects(restored(bytes, target, { again: cut }), /has changed since it was checked: .*cut off/)
  assert.equal((await target.read(ledgerKey.genesis)).value, null)
  await restored(bytes, target)
  assert.deepEqual((await entriesOf(target)).size, (await entriesOf(ledger)).size)
})
