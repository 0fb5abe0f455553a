import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seeded } from '../../test/sim/seed.ts'
import type { Scalar } from '../table/vault.ts'
import { answersIn, bodyOf, columnIn, questionOf } from './bodies.ts'
import { textOf } from './scalars.ts'

const random = seeded()
console.log(`COFFER_SEED=${random.seed}`)

const TEXTS: readonly Scalar[] = ['', ',', 'null', ']', '","', '17', 'Zoë', '😀']
const PLAIN: readonly Scalar[] = [...TEXTS, 17, -1.5e-7, 1e21, true, false, null]
const ESCAPED: readonly Scalar[] = ['"', '\\', 'a\nb', '\0', '\x1f']

function textsIn(body: Uint8Array, count: number): (string | null)[] | undefined {
  const column = columnIn('detokenize', body, count)
  if (column === undefined) return undefined
  const { bytes, starts, ends } = column
  return Array.from(ends, (end, i) =>
    end < 0 ? null : Buffer.from(bytes.subarray(starts[i], end)).toString('utf8'),
  )
}

test('answers as bytes are the answers of JSON', () => {
  for (let round = 0; round < 500; round++) {
    const from = round % 2 === 0 ? PLAIN : [...PLAIN, ...ESCAPED]
    const values = Array.from({ length: 1 + random.below(6) }, () => random.pick(from))
    const json = JSON.stringify({ values, not_found: [] }, null, random.chance(0.1) ? 1 : 0)
    const body = Buffer.from(json)
    assert.deepEqual(textsIn(body, values.length), values.map(textOf), json)
    assert.deepEqual(answersIn('detokenize', body, values.length)?.answers, values, json)
    for (const count of [values.length + 1, values.length + 2]) {
      assert.equal(textsIn(body, count), undefined, json)
      assert.equal(answersIn('detokenize', body, count), undefined, json)
    }
  }
})

test('bytes that are no answer are told as such', () => {
  const noLists = ['', '[]', '{}', 'null', '<html>']
  for (const text of [...noLists, '{"values":["a"', '{"values":["a', '{"values":[[]]}', '{"values":[,]}'])
    assert.equal(textsIn(Buffer.from(text), 1), undefined, text)
})

test('a question comes back from the body of its request', () => {
  for (const question of [
    { operation: 'detokenize', values: ['a', '"'] },
    { operation: 'retokenize', values: ['a'] },
    { operation: 'tokenize', values: ['a', 17, true] },
    { operation: 'tokenize', values: ['a'], allowTokens: true },
  ] as const)
    assert.deepEqual(questionOf(question.operation, bodyOf(question)), question)
})

test('the epoch of an answer counts where a token was found', () => {
  for (const [tokens, epochs] of [
    [['tok_2_x', null], [2]],
    [[null, null], []],
  ]) {
    const body = Buffer.from(JSON.stringify({ epoch: 2, tokens, not_found: [] }))
    assert.deepEqual(answersIn('retokenize', body, 2)?.epochs, epochs)
  }
})
