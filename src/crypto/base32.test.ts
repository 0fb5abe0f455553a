import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BASE32_DECODE, BASE32_ENCODE, base32 } from './base32.ts'

test('base32: five bits a character, the last one padded with zeros', () => {
  assert.equal(base32(Uint8Array.of()), '')
  assert.equal(base32(Uint8Array.of(0xff)), 'zw')
  assert.equal(base32(Buffer.from('hello')), 'd1jprv3f')
  assert.equal(base32(new Uint8Array(32).fill(0xff)), `${'z'.repeat(51)}g`)
})

test('the tables are each other the other way round', () => {
  for (let value = 0; value < 32; value++) assert.equal(BASE32_DECODE[BASE32_ENCODE[value]], value)
  assert.equal(BASE32_DECODE.filter((value) => value === 255).length, 256 - 32)
  for (const char of 'ilouA=') assert.equal(BASE32_DECODE[char.charCodeAt(0)], 255, char)
})
