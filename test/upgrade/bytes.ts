// Every stored form in bytes, made of fixed values and fixed randomness. golden.test.ts compares them with the bytes that
// belong to the format.

import assert from 'node:assert/strict'
import { createSecretKey } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { open } from 'lmdb'
import { EntryDigest } from '../../src/backup/entry-digest.ts'
import { BackupWriter } from '../../src/backup/file.ts'
import type { Clock } from '../../src/clock.ts'
import { Deadline } from '../../src/clock.ts'
import { Values } from '../../src/crypto/canonical.ts'
import { EpochKey } from '../../src/crypto/epoch-key.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { receiptHash, requestMac } from '../../src/crypto/receipt.ts'
import { sealSecret } from '../../src/crypto/secret.ts'
import { tokenText } from '../../src/crypto/token.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { writeCheckpoint } from '../../src/replica/checkpoint.ts'
import { LmdbStore } from '../../src/replica/lmdb-store.ts'
import { Tables } from '../../src/replica/tables.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { decodePuts } from '../../src/state/puts.ts'
import { encodeSegment } from '../../src/state/segment.ts'
import { State } from '../../src/state/state.ts'
import { step } from '../../src/state/step.ts'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'

/** Name of a form to its bytes, in hex or text. */
export type Bytes = Record<string, string>

type Put = { readonly key: string; readonly value: Uint8Array }

const OWNER = 'clinic-a'
const OPENED = '2026-01-01T00:00:00.000Z'
const IDENTITY = 'ab'.repeat(16)
const WRITER = { boot: '000102030405060708090a0b0c0d0e0f', commit: 7 }

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const range = (from: number, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => from + i)

/** Every piece of randomness is the bytes from `from` on. */
function fixedClock(from: number): Clock {
  const now = (): number => Date.parse(OPENED)
  return { now, monotonic: now, random: (length: number) => range(from, length) }
}

function keyring(): Keyring {
  const root = newRootKey(fixedClock(32))
  return new Keyring([root], root.id)
}

/** A token of each type of value, and the mappings as a segment. */
function tokens(): { readonly texts: string; readonly segment: Put } {
  const key = new EpochKey(OWNER, 3, range(0, 32))
  const values = new Values()
  for (const text of ['999-12-3456', 'Zoë 💊', 'x'.repeat(2000)]) values.pushString(text, 3000)
  for (let i = 0; i < 40; i++) values.pushString(`value ${i}`, 3000) // more than a page holds
  for (const value of [17, -0.5]) values.pushNumber(value)
  for (const value of [true, false]) values.pushBoolean(value)
  const bodies = key.bodies(values)
  const checks = key.checkBlocks(bodies, values.count)
  const sealed = key.seal(
    values,
    bodies,
    Uint32Array.from({ length: values.count }, (_, i) => i),
  )
  const texts = Array.from({ length: values.count }, (_, i) =>
    tokenText(3, bodies.subarray(i * 16, i * 16 + 16), checks.subarray(i * 16, i * 16 + 4)),
  )
  const run = { mappings: sealed, from: 0, to: values.count }
  const value = encodeSegment({ owner: OWNER, epoch: 3, writer: WRITER }, [run])
  return { texts: texts.join(' '), segment: { key: ledgerKey.segment(WRITER.boot, 7), value } }
}

function secret(): readonly Put[] {
  const about = { owner: OWNER, name: 'app/prod/DB_URL', version: 2, validFrom: Date.parse(OPENED) }
  const author = { keyId: 'k1', requestId: 'request-1' }
  const sealed = sealSecret(keyring(), { ...about, ...author }, Buffer.from('a value'), fixedClock(100))
  const version = encodeEntry({ kind: 'version', ...about, ...author, ...sealed }, WRITER)
  const key = createSecretKey(range(64, 32))
  const under = { owner: OWNER, keyId: 'k1', idempotencyKey: 'job-17' }
  const asked = { method: 'PUT', name: about.name, ifMatch: '"1"', body: Buffer.from('{"value":"a value"}') }
  const hash = receiptHash(key, under)
  const mac = requestMac(key, under, asked)
  const receipt = { owner: OWNER, hash, mac, at: about.validFrom, version: 2, validFrom: about.validFrom }
  return [
    { key: ledgerKey.receipt(OWNER, hash), value: encodeEntry({ kind: 'receipt', ...receipt }, WRITER) },
    { key: ledgerKey.version(OWNER, about.name, 2), value: version },
  ]
}

/** An entry of every kind, in the order of a snapshot. */
function entries(): readonly Put[] {
  const ring = keyring()
  const receiptKey = ring.wrap(range(64, 32), ['receipts'], fixedClock(0))
  const wrapped = ring.wrap(range(0, 32), ['epoch', OWNER, '3'], fixedClock(0))
  const about = { owner: OWNER, openedAt: OPENED }
  const node = { kind: 'node', node: 'n1', fields: 'cd'.repeat(32), active: ring.active } as const
  const list = [
    ['genesis', { kind: 'genesis', identity: IDENTITY, format: LEDGER_FORMAT, receiptKey }],
    [ledgerKey.boot(WRITER.boot), { kind: 'boot', boot: WRITER.boot, node: 'n1' }],
    [ledgerKey.node('n1'), { ...node, rootKeys: [ring.active, 'rk-2'] }],
    [ledgerKey.wrappedKey(OWNER, 2), { kind: 'tombstone', epoch: 2, ...about }],
    [ledgerKey.wrappedKey(OWNER, 3), { kind: 'key', epoch: 3, wrapped, ...about }],
    [ledgerKey.epoch(OWNER), { kind: 'epoch', owner: OWNER, active: 3 }],
  ] as const
  const small = list.map(([key, entry]) => ({ key, value: encodeEntry(entry, WRITER) }))
  return [...small, ...secret(), tokens().segment]
}

/** Frame by frame. */
async function backup(puts: readonly Put[]): Promise<Bytes> {
  const chunks: Uint8Array[] = []
  const digest = new EntryDigest()
  const writer = new BackupWriter(async (chunk) => chunks.push(chunk))
  const head = { revision: 9, identity: IDENTITY, format: LEDGER_FORMAT, madeAt: OPENED }
  await writer.head(head, keyring(), fixedClock(96))
  for (const { key, value } of puts) {
    digest.add(key, value)
    await writer.entry({ key, value })
  }
  await writer.end({ entries: puts.length, mappings: digest.mappings, digest: digest.digest() })
  const bytes = Buffer.concat(chunks)
  const made: Bytes = {
    'backup: magic': hex(bytes.subarray(0, 16)),
    'digest of all entries': digest.digest(),
  }
  let at = 16
  for (const name of ['head', ...puts.map(({ key }) => key), 'end']) {
    const end = at + 9 + bytes.readUInt32BE(at + 1)
    made[`backup: ${name}`] = hex(bytes.subarray(at, end))
    at = end
  }
  return { ...made, 'backup: code': hex(bytes.subarray(at)) }
}

/** All records of an LMDB file, of whichever database; keys in hex as well. */
async function recordsOf(path: string): Promise<Bytes> {
  const made: Bytes = {}
  const env = open({ path, encoding: 'binary', maxDbs: 12, readOnly: true })
  for (const name of [...env.getKeys()].map(String)) {
    const database = env.openDB<Buffer, Buffer>({ name, encoding: 'binary', keyEncoding: 'binary' })
    for (const { key, value } of database.getRange()) made[`${name} ${hex(key)}`] = hex(value)
  }
  await env.close()
  return made
}

/** Forms of LEDGER_FORMAT: entries, what they derive from, backups, the file of an embedded ledger. */
export async function ledgerBytes(dir: string): Promise<Bytes> {
  const puts = entries()
  const made: Bytes = { tokens: tokens().texts }
  for (const { key, value } of puts) made[`entry ${key}`] = hex(value)
  const ledger = new LmdbLedger(join(dir, 'ledger'))
  await ledger.commit({ if: [], put: [{ key: 'a', value: Buffer.from('xyz') }] }, Deadline.never)
  const put = [
    { key: 'a', value: null },
    { key: 'b', value: Buffer.from('1') },
  ]
  await ledger.commit({ if: [], put }, Deadline.never)
  await ledger.close()
  const records = await recordsOf(join(dir, 'ledger'))
  for (const [name, bytes] of Object.entries(records)) made[`file: ${name}`] = bytes
  return { ...made, ...(await backup(puts.filter(({ key }) => key !== ledgerKey.node('n1')))) }
}

/** Forms of REPLICA_FORMAT: all records of a replica that has applied an entry of every kind, and its checkpoint. */
export async function replicaBytes(dir: string): Promise<Bytes> {
  const state = new State()
  const tables = new Tables()
  const store = new LmdbStore(join(dir, 'replica'))
  const puts = entries().map((put) => ({ ...put, created: 1 }))
  const { decoded, removed } = decodePuts(1, puts)
  const revisions = [{ revision: 1, decoded, removed }]
  const { batch, effects } = step(state, { revisions, ledger: IDENTITY, checkpoint: `${'ef'.repeat(8)} 1` })
  await store.write(batch)
  for (const effect of effects) state.apply(effect, tables)
  const numbered = tables.all().map(({ id, tokens }) => ({ id, table: tokens }))
  await writeCheckpoint(store.checkpoints, 'ef'.repeat(8), numbered)
  await store.close()
  const made = await recordsOf(join(dir, 'replica'))
  const files = globSync('checkpoint-*', { cwd: join(dir, 'replica') })
  assert.equal(files.length, 1)
  return { ...made, checkpoint: hex(readFileSync(join(dir, 'replica', files[0]))) }
}
