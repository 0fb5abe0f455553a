// Canonical values, tokens and sealed values against the published vectors (test/vectors/tokens.json), whose
// HMAC and CTR parts are computed again here with node:crypto, one value at a time. COFFER_UPDATE=1 writes
// the vectors anew.
import assert from 'node:assert/strict'
import { createCipheriv, createHmac, hkdfSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fromCanonical, InvalidValue, type Scalar, Values } from './canonical.ts'
import { EpochKey } from './epoch-key.ts'
import { readTokenText, tokenText, writeTokenText } from './token.ts'

const FILE = join(import.meta.dirname, '../../test/vectors/tokens.json')
const LIMIT = 32 * 1024
const OWNER = 'clinic-a'
const EPOCH = 3
const ROOT = Uint8Array.from({ length: 32 }, (_, i) => i)
const SAMPLES: readonly Scalar[] = [
  '',
  'a',
  '1234567',
  '12345678',
  '999-12-3456',
  'Zoë',
  '\u0000',
  '💊',
  'x'.repeat(100),
  17,
  '17',
  1.5,
  -0,
  1.5e-7,
  5e-324,
  9007199254740991,
  -12.25,
  true,
  false,
  'true',
]

type Vector = { value: Scalar; canonical: string; body: string; check: string; token: string; sealed: string }

/** The same as crypto/, in the plainest way. */
function reference(value: Scalar): Vector {
  const canonical =
    typeof value === 'string'
      ? Buffer.concat([Buffer.of(1), Buffer.from(value, 'utf8')])
      : typeof value === 'number'
        ? Buffer.from(`\u0002${Object.is(value, -0) ? '0' : String(value)}`)
        : Buffer.of(value ? 4 : 3)
  const key = (purpose: string): Uint8Array =>
    new Uint8Array(hkdfSync('sha256', ROOT, '', Buffer.from(`coffer/1/${purpose}\0${OWNER}\0${EPOCH}`), 32))
  const body = createHmac('sha256', key('token')).update(canonical).digest().subarray(0, 16)
  const ecb = createCipheriv('aes-256-ecb', key('check'), null).setAutoPadding(false)
  const check = ecb.update(body).subarray(0, 4)
  const padded = Buffer.alloc((Math.floor(canonical.length / 8) + 1) * 8)
  canonical.copy(padded)
  padded[canonical.length] = 0x80
  const sealed = createCipheriv('aes-256-ctr', key('seal'), body).update(padded)
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const token = tokenText(EPOCH, body, check)
  return { value, canonical: hex(canonical), body: hex(body), check: hex(check), token, sealed: hex(sealed) }
}

function valuesOf(samples: readonly Scalar[]): Values {
  const values = new Values(1, 8)
  for (const sample of samples) values.push(sample, LIMIT)
  return values
}

test('tokens, checks and sealed values are those of the published vectors', () => {
  const expected = SAMPLES.map(reference)
  if (process.env.COFFER_UPDATE) {
    const head = { owner: OWNER, epoch: EPOCH, root_key: Buffer.from(ROOT).toString('hex') }
    writeFileSync(FILE, `${JSON.stringify({ ...head, vectors: expected }, null, 1)}\n`)
  }
  const { vectors }: { vectors: Vector[] } = JSON.parse(readFileSync(FILE, 'utf8'))
  assert.deepEqual(JSON.parse(JSON.stringify(expected)), vectors)
  const key = new EpochKey(OWNER, EPOCH, ROOT)
  const values = valuesOf(SAMPLES)
  const bodies = key.bodies(values)
  const checks = key.checkBlocks(bodies, values.count)
  const sealed = key.seal(values, bodies, Uint32Array.from(SAMPLES.keys()))
  for (const [i, vector] of vectors.entries()) {
    const body = Buffer.from(bodies.subarray(i * 16, i * 16 + 16))
    assert.equal(body.toString('hex'), vector.body)
    assert.equal(Buffer.from(checks.subarray(i * 16, i * 16 + 4)).toString('hex'), vector.check)
    assert.equal(tokenText(EPOCH, body, checks.subarray(i * 16, i * 16 + 4)), vector.token)
    const at = sealed.offset[i] * 8
    assert.equal(
      Buffer.from(sealed.bytes.subarray(at, at + sealed.sizes[i] * 8)).toString('hex'),
      vector.sealed,
    )
  }
})

/** Sealed values put where open() wants them. */
function sealedValues(
  key: EpochKey,
  samples: readonly Scalar[],
): { values: Values; sizes: Uint32Array; bodies: Uint8Array } {
  const source = valuesOf(samples)
  const bodies = key.bodies(source)
  const sealed = key.seal(source, bodies, Uint32Array.from(samples.keys()))
  const values = new Values(1, 8)
  for (let i = 0; i < sealed.count; i++) {
    const at = values.pushRoom(sealed.sizes[i])
    values.bytes.set(
      sealed.bytes.subarray(sealed.offset[i] * 8, (sealed.offset[i] + sealed.sizes[i]) * 8),
      at,
    )
  }
  return { values, sizes: sealed.sizes, bodies }
}

test('what was sealed opens to the same value and type', () => {
  const key = new EpochKey(OWNER, EPOCH, ROOT)
  const samples = [...SAMPLES, 'y'.repeat(LIMIT), 'ü'.repeat(5000)]
  const { values, sizes, bodies } = sealedValues(key, samples)
  assert.equal(key.open(values, sizes, bodies), samples.length)
  for (const [i, sample] of samples.entries()) {
    const value = fromCanonical(values.bytes, values.offset[i] * 8, values.length[i])
    assert.ok(value === sample || (Object.is(sample, -0) && value === 0), String(i))
  }
})

test('a sealed value that was changed, or moved to another token, owner or epoch, does not open', () => {
  const key = new EpochKey(OWNER, EPOCH, ROOT)
  const samples = ['one', 'two', 'three and some more', 4]
  for (let bit = 0; bit < 64; bit++) {
    const { values, sizes, bodies } = sealedValues(key, samples)
    values.bytes[values.offset[1] * 8 + (bit >> 3)] ^= 1 << (bit & 7)
    assert.equal(key.open(values, sizes, bodies), 3)
    assert.equal(values.length[1], 0)
  }
  const { values, sizes, bodies } = sealedValues(key, samples)
  bodies.copyWithin(0, 16, 32)
  assert.equal(key.open(values, sizes, bodies), 3)
  for (const other of [new EpochKey('clinic-b', EPOCH, ROOT), new EpochKey(OWNER, 4, ROOT)]) {
    const moved = sealedValues(key, samples)
    assert.equal(other.open(moved.values, moved.sizes, moved.bodies), 0)
  }
})

test('owner, epoch and type each make another token; the same value has the same one', () => {
  const body = (owner: string, epoch: number, value: Scalar): string =>
    Buffer.from(new EpochKey(owner, epoch, ROOT).bodies(valuesOf([value]))).toString('hex')
  const all = [
    body('a', 1, '17'),
    body('a', 1, 17),
    body('b', 1, '17'),
    body('a', 2, '17'),
    body('a', 1, 'true'),
    body('a', 1, true),
  ]
  assert.equal(new Set(all).size, all.length)
  assert.equal(body('a', 1, 1), body('a', 1, 1.0))
  assert.equal(body('a', 1, 0), body('a', 1, -0))
  assert.notEqual(body('a', 1, 'é'), body('a', 1, 'e\u0301'))
})

test('values that have no canonical form are refused', () => {
  for (const bad of [
    2 ** 53,
    -(2 ** 53),
    1e300,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '\ud800',
    'a\udc00b',
    'x'.repeat(LIMIT + 1),
    'ü'.repeat(LIMIT / 2 + 1),
  ]) {
    assert.throws(() => valuesOf([bad]), InvalidValue)
  }
  assert.equal(valuesOf(['x'.repeat(LIMIT), 'ü'.repeat(LIMIT / 2), 2 ** 53 - 1]).count, 3)
})

test('the text of a token is read back, and nothing else is', () => {
  const body = Uint8Array.from({ length: 16 }, (_, i) => 255 - i * 7)
  const check = Uint8Array.of(1, 2, 253, 254)
  const read = (text: string): number => {
    const bytes = Buffer.from(text, 'latin1')
    return readTokenText(bytes, 0, bytes.length, new Uint8Array(16), new Uint8Array(4), 0)
  }
  for (const epoch of [1, 9, 10, 4294967295, 9999999999]) {
    const text = tokenText(epoch, body, check)
    assert.match(text, /^tok_[1-9][0-9]{0,9}_[0-9a-hjkmnp-tv-z]{32}$/)
    const [gotBody, gotCheck] = [new Uint8Array(16), new Uint8Array(4)]
    const bytes = Buffer.from(text)
    assert.equal(readTokenText(bytes, 0, bytes.length, gotBody, gotCheck, 0), epoch)
    assert.deepEqual([gotBody, gotCheck], [body, check])
  }
  const good = tokenText(12, body, check)
  for (let i = 0; i < good.length; i++) {
    for (const char of ['i', 'l', 'o', 'u', 'A', '-', '\u00e9', ' ']) {
      if (good[i] !== char && (i < 4 || i > 6))
        assert.equal(read(good.slice(0, i) + char + good.slice(i + 1)), 0, `${char} at ${i}`)
    }
  }
  for (const bad of [
    '',
    'tok_',
    'tok_0_',
    good.slice(1),
    good.slice(0, -1),
    `${good}0`,
    good.replace('12', '012'),
    good.replace('12', '0'),
    good.replace('12', '99999999999'),
    good.replace('12', '1.'),
    good.toUpperCase(),
  ]) {
    assert.equal(read(bad), 0, bad)
  }
})

test('writing at a place touches nothing else', () => {
  const out = new Uint8Array(50).fill(7)
  writeTokenText(out, 9, new Uint8Array(16), 0, new Uint8Array(4), 0)
  assert.deepEqual(out.subarray(0, 9), new Uint8Array(9).fill(7))
  assert.deepEqual(out.subarray(41), new Uint8Array(9).fill(7))
  assert.equal(Buffer.from(out.subarray(9, 41)).toString(), '0'.repeat(32))
})
