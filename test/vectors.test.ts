// Secrets and receipts against the published vectors (test/vectors/secrets.json), which are computed again here in the
// plainest way, after docs/format.md. COFFER_UPDATE=1 writes the vectors anew. Those of tokens: src/crypto/tokens.test.ts.
import assert from 'node:assert/strict'
import { createCipheriv, createHmac, createSecretKey } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Keyring, UnwrapError } from '../src/crypto/keyring.ts'
import { type AskedRequest, receiptHash, requestMac } from '../src/crypto/receipt.ts'
import { openSecret, sealSecret } from '../src/crypto/secret.ts'
import { decodeEntry, encodeEntry } from '../src/state/entries.ts'
import { ledgerKey } from '../src/state/ledger-keys.ts'

const FILE = join(import.meta.dirname, 'vectors/secrets.json')

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const range = (from: number, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => from + i)

const OWNER = 'clinic-a'
const ROOT = { id: 'rk-b79d96aff6c3', key: range(32, 32), createdAt: '2026-01-01T00:00:00.000Z' }
const RING = new Keyring([ROOT], ROOT.id)
const WRITER = { boot: hex(range(0, 16)), commit: 7 }
const RECEIPT_KEY = range(64, 32)

/** What a version says of itself. */
type VersionAbout = {
  readonly name: string
  readonly version: number
  readonly valid_from: string
  readonly key_id: string
  readonly request_id: string
}

type VersionVector = VersionAbout & {
  readonly value: string
  readonly data_key: string
  readonly nonce: string
  readonly wrap_nonce: string
  readonly associated_data: string
  readonly sealed: string
  readonly wrapped: string
  /** Of the ledger, with the whole entry. */
  readonly key: string
  readonly entry: string
}

type ReceiptVector = {
  readonly key_id: string
  readonly idempotency_key: string
  readonly method: string
  readonly name: string
  /** null: there is no such header. */
  readonly if_match: string | null
  readonly body: string
  readonly at: string
  readonly version: number
  readonly valid_from: string
  readonly hash: string
  readonly mac: string
  readonly key: string
  readonly entry: string
}

type Vectors = {
  readonly owner: string
  readonly root_key_id: string
  readonly root_key: string
  readonly receipt_key: string
  readonly writer: { readonly boot: string; readonly commit: number }
  readonly versions: readonly VersionVector[]
  readonly receipts: readonly ReceiptVector[]
}

// ---- as the code makes them

const SAMPLES = [
  { name: 'app/prod/DB_URL', version: 1, value: 'postgres://u:p@db/app', random: 0 },
  { name: 'app/prod/DB_URL', version: 2, value: 'postgres://u:q@db/app', random: 100 },
  { name: 'a', version: 1, value: '', random: 1 },
  { name: 'a/1', version: 9_999_999_999, value: 'Zoë 💊\0', random: 2 },
  { name: `${'n'.repeat(254)}.-`, version: 17, value: 'x'.repeat(100), random: 3 },
] as const

function versionVector({ name, version, value, random }: (typeof SAMPLES)[number]): VersionVector {
  const where = { owner: OWNER, name, version }
  // First the data key and its nonce, then the nonce of the wrapping.
  const now = (): number => 0
  const clock = { now, monotonic: now, random: (length: number) => range(random, length) }
  const validFrom = Date.parse(ROOT.createdAt) + version
  const about = { kind: 'version', ...where, validFrom, keyId: 'k1', requestId: `request-${random}` } as const
  const sealed = sealSecret(RING, about, Buffer.from(value), clock)
  const vector = {
    name,
    version,
    valid_from: new Date(validFrom).toISOString(),
    key_id: about.keyId,
    request_id: about.requestId,
  }
  return {
    ...vector,
    value,
    data_key: hex(range(random, 32)),
    nonce: hex(range(random + 32, 12)),
    wrap_nonce: hex(range(random, 12)),
    associated_data: associated(['coffer/2', ...placeOf(OWNER, vector)]),
    sealed: hex(sealed.sealed),
    wrapped: hex(sealed.wrapped),
    key: ledgerKey.version(OWNER, name, version),
    entry: hex(encodeEntry({ ...about, ...sealed }, WRITER)),
  }
}

const BODY = '{"name":"app/prod/DB_URL","value":"postgres://u:p@db/app"}'
const ASKED = [
  { idempotencyKey: 'job-17', method: 'POST', name: '', ifMatch: undefined, body: BODY },
  {
    idempotencyKey: 'job-18',
    method: 'PUT',
    name: 'a/1',
    ifMatch: '"1"',
    body: '{"value":"Zoë"}',
  },
  { idempotencyKey: ' a "key" ', method: 'PUT', name: 'a', ifMatch: '', body: '{"value":""}' },
] as const

function receiptVector({ idempotencyKey, ...asked }: (typeof ASKED)[number]): ReceiptVector {
  const request: AskedRequest = { ...asked, body: Buffer.from(asked.body) }
  const key = createSecretKey(RECEIPT_KEY)
  const under = { owner: OWNER, keyId: 'k1', idempotencyKey }
  const hash = receiptHash(key, under)
  const mac = requestMac(key, under, request)
  const [at, validFrom] = [5, 1].map((ms) => Date.parse(ROOT.createdAt) + ms)
  const entry = { kind: 'receipt', owner: OWNER, hash, mac, at, version: 1, validFrom } as const
  return {
    key_id: under.keyId,
    idempotency_key: idempotencyKey,
    method: asked.method,
    name: asked.name,
    if_match: asked.ifMatch ?? null,
    body: asked.body,
    at: new Date(at).toISOString(),
    version: 1,
    valid_from: new Date(validFrom).toISOString(),
    hash,
    mac: hex(mac),
    key: ledgerKey.receipt(OWNER, hash),
    entry: hex(encodeEntry(entry, WRITER)),
  }
}

function made(): Vectors {
  return {
    owner: OWNER,
    root_key_id: ROOT.id,
    root_key: hex(ROOT.key),
    receipt_key: hex(RECEIPT_KEY),
    writer: WRITER,
    versions: SAMPLES.map(versionVector),
    receipts: ASKED.map(receiptVector),
  }
}

// ---- as docs/format.md tells

function associated(texts: readonly string[]): string {
  const length = (text: string): string => Buffer.byteLength(text).toString(16).padStart(8, '0')
  return texts.map((text) => length(text) + hex(Buffer.from(text))).join('')
}

/** The associated data of a version, behind `coffer/2` and the id of the root key. */
function placeOf(owner: string, vector: VersionAbout): string[] {
  const { name, version, valid_from, key_id, request_id } = vector
  return ['secret', owner, name, String(version), String(Date.parse(valid_from)), key_id, request_id]
}

function gcm(key: string, nonce: string, associatedData: string, clear: Uint8Array): string {
  const cipher = createCipheriv('aes-256-gcm', unhex(key), unhex(nonce))
  cipher.setAAD(unhex(associatedData))
  return hex(Buffer.concat([cipher.update(clear), cipher.final(), cipher.getAuthTag()]))
}

const u64 = (n: number): string => n.toString(16).padStart(16, '0')
const u8 = (n: number): string => n.toString(16).padStart(2, '0')
const short = (text: string): string => u8(text.length) + hex(Buffer.from(text))
const entryHead = ({ writer }: Vectors): string => `02${writer.boot}${u64(writer.commit)}`

function checkVersion(all: Vectors, vector: VersionVector): void {
  const { name, version, data_key, nonce, wrap_nonce, sealed, wrapped } = vector
  const place = placeOf(all.owner, vector)
  assert.equal(vector.associated_data, associated(['coffer/2', ...place]))
  assert.equal(sealed, nonce + gcm(data_key, nonce, vector.associated_data, Buffer.from(vector.value)))
  const wrapping = gcm(
    all.root_key,
    wrap_nonce,
    associated(['coffer/2', all.root_key_id, ...place]),
    unhex(data_key),
  )
  assert.equal(wrapped, `02${short(all.root_key_id)}${wrap_nonce}${wrapping}`)
  assert.equal(vector.key, `version/${all.owner}/${name}@${String(version).padStart(10, '0')}`)
  const about = u64(Date.parse(vector.valid_from)) + short(vector.key_id) + short(vector.request_id)
  const size = (wrapped.length / 2).toString(16).padStart(4, '0')
  assert.equal(vector.entry, `${entryHead(all)}0201${about}${size}${wrapped}${sealed}`)
}

function checkReceipt(all: Vectors, vector: ReceiptVector): void {
  const mac = (text: string): string =>
    createHmac('sha256', unhex(all.receipt_key)).update(text).digest('hex')
  const { method, name, if_match, body, at, version, valid_from } = vector
  const under = `${all.owner}\0${vector.key_id}\0${vector.idempotency_key}`
  assert.equal(vector.hash, mac(`key\0${under}`))
  assert.equal(
    vector.mac,
    mac(`request\0${under}\0${method}\0${name}\0${if_match === null ? '' : `=${if_match}`}\0${body}`),
  )
  assert.equal(vector.key, `receipt/${all.owner}/${vector.hash}`)
  const numbers = [Date.parse(at), version, Date.parse(valid_from)].map(u64)
  assert.equal(vector.entry, `${entryHead(all)}02${vector.mac}${numbers.join('')}`)
}

test('versions of secrets and receipts are those of the vectors', () => {
  if (process.env.COFFER_UPDATE === '1') writeFileSync(FILE, `${JSON.stringify(made(), null, 1)}\n`)
  const all: Vectors = JSON.parse(readFileSync(FILE, 'utf8')) // what is compared here
  assert.deepEqual(made(), all, 'COFFER_UPDATE=1 writes them anew')
  for (const vector of all.versions) checkVersion(all, vector)
  for (const vector of all.receipts) checkReceipt(all, vector)
})

test('a wrapped key is bound to the format, its root key and its place, and to nothing else', () => {
  const clock = { now: () => 0, monotonic: () => 0, random: (length: number) => range(0, length) }
  const [nonce, key] = [hex(range(0, 12)), range(100, 32)]
  for (const place of [['epoch', OWNER, '3'], ['receipts'], ['secret', OWNER, 'a', '1', '17', 'k1', 'r']]) {
    const context = associated(['coffer/2', ROOT.id, ...place])
    const wanted = `02${short(ROOT.id)}${nonce}${gcm(hex(ROOT.key), nonce, context, key)}`
    assert.equal(hex(RING.wrap(key, place, clock)), wanted, place.join(' '))
    assert.deepEqual(RING.unwrap(unhex(wanted), place), key)
    for (const other of [place.with(-1, 'x'), [...place, ''], place.slice(0, -1)])
      assert.throws(() => RING.unwrap(unhex(wanted), other), UnwrapError, other.join(' '))
  }
})

test('the vectors of secrets are read back, and open at their own place only', () => {
  const all: Vectors = JSON.parse(readFileSync(FILE, 'utf8'))
  for (const { key, entry, name, version, value, valid_from } of all.versions) {
    const read = decodeEntry(key, unhex(entry))
    assert.ok(read?.kind === 'version')
    assert.deepEqual(
      [read.owner, read.name, read.version, new Date(read.validFrom).toISOString()],
      [all.owner, name, version, valid_from],
    )
    assert.equal(openSecret(RING, read, read).toString('utf8'), value)
    for (const other of [
      { owner: 'clinic-b' },
      { name: `${name}x` },
      { version: version + 1 },
      { validFrom: read.validFrom + 1 },
      { keyId: 'k2' },
      { requestId: 'another' },
    ])
      assert.throws(() => openSecret(RING, { ...read, ...other }, read))
  }
  for (const { key, entry, hash, mac, at } of all.receipts) {
    const read = decodeEntry(key, unhex(entry))
    assert.ok(read?.kind === 'receipt')
    assert.deepEqual([read.hash, hex(read.mac), read.at], [hash, mac, Date.parse(at)])
  }
})
