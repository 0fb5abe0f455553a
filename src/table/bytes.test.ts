import { deepEqual, equal, throws } from 'node:assert/strict'
import { test } from 'node:test'
import { VaultAnswer } from './answer.ts'
import { ByteList, Bytes, copyBytes, isEqual } from './bytes.ts'
import { epochOfQuoted } from './vault.ts'

const SOURCE = new Bytes(Uint8Array.from({ length: 400 }, (_, i) => (i * 37) ^ (i >> 3)))

test('bytes of every length are copied, and nothing beside', () => {
  for (let size = 0; size < 200; size++) {
    const out = new Bytes(new Uint8Array(220).fill(255))
    equal(copyBytes(SOURCE, 3, 3 + size, out, 7), 7 + size)
    deepEqual(out.bytes.subarray(7, 7 + size), SOURCE.bytes.subarray(3, 3 + size))
    deepEqual([...out.bytes.subarray(0, 7), ...out.bytes.subarray(7 + size)], Array(220 - size).fill(255))
  }
})

test('bytes are equal where each byte is', () => {
  for (let size = 0; size < 20; size++) {
    const other = new Bytes(SOURCE.bytes.slice(0, 40))
    equal(isEqual(SOURCE, 5, 5 + size, other, 5), true)
    for (let i = 0; i < size; i++) {
      other.bytes[5 + i] ^= 64
      equal(isEqual(SOURCE, 5, 5 + size, other, 5), false, `byte ${i} of ${size}`)
      other.bytes[5 + i] ^= 64
    }
  }
})

test('a list keeps its bytes when it grows', () => {
  const list = new ByteList()
  for (let i = 0; i < 50; i++) list.append(SOURCE, 0, 300)
  list.appendText('é')
  equal(
    list.slice(0, list.size).toString('latin1'),
    `${Buffer.from(SOURCE.bytes).toString('latin1', 0, 300).repeat(50)}Ã©`,
  )
})

test('the epoch of a token in quotes, and 0 for all else', () => {
  const body = '0123456789abcdefghjkmnpqrstvwxyz'
  const epochOf = (text: string): number =>
    epochOfQuoted(Buffer.from(`[${text}]`), 1, Buffer.byteLength(text) + 1)
  equal(epochOf(`"tok_1_${body}"`), 1)
  equal(epochOf(`"tok_4294967295_${body}"`), 4_294_967_295)
  for (const text of [
    `tok_1_${body}`,
    `"tok_0_${body}"`,
    `"tok_01_${body}"`,
    `"tok__${body}"`,
    `"tok_12345678901_${body}"`,
    `"Tok_1_${body}"`,
    `"tok_1_${body}x"`,
    `"tok_1_${body.replace('z', 'u')}"`,
    `"tok_1_${body.replace('z', 'Z')}"`,
    '"tok_1_"',
    '""',
    '17',
  ])
    equal(epochOf(text), 0, text)
})

test('an answer in any form of JSON is read, and what is no answer is told as such', () => {
  const read = (text: string): VaultAnswer => new VaultAnswer(Buffer.from(text), 'tokenize')
  const answer = read(' { "tokens" : [ "a" , null , "b\\n" , 1.50 ] , "x" : [ 1 ] , "epoch" : 7 } ')
  deepEqual([answer.count, answer.epoch], [4, 7])
  deepEqual(
    [0, 1, 2, 3].map((i) => answer.isNull(i)),
    [false, true, false, false],
  )
  deepEqual(
    [0, 2, 3].map((i) => answer.valueOf(i)),
    ['a', 'b\n', 1.5],
  )
  equal(answer.isPlain(2), false)
  equal(read('{}').count, 0)
  for (const text of ['', '<html>', '{"tokens":["a"', '{"tokens":["a"]}x'])
    throws(() => read(text), /OperatorError: the answer is not the answer of a vault/)
  throws(() => read('{"tokens":[{}]}').valueOf(0), /OperatorError/)
})
