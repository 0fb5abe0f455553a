import { deepEqual, equal, notEqual } from 'node:assert/strict'
import { test } from 'node:test'
import { Bytes } from './bytes.ts'
import { Dictionary, Hash, STATE } from './dictionary.ts'
import { DistinctCount } from './distinct.ts'
import { Remembered } from './remembered.ts'

const LIMITS = { values: 5_000, bytes: 1024 * 1024 }

function textBytes(text: string): Bytes {
  return new Bytes(Buffer.from(text))
}

function hashOf({ bytes, ...words }: Bytes): number {
  const hash = new Hash()
  hash.set({ bytes, ...words }, 0, bytes.length)
  return hash.low
}

function add(dictionary: Dictionary, text: string): number {
  const bytes = textBytes(text)
  return dictionary.add(bytes, 0, bytes.bytes.length, hashOf(bytes))
}

function find(dictionary: Dictionary, text: string): number {
  const bytes = textBytes(`<${text}>`)
  return dictionary.find(bytes, 1, bytes.bytes.length - 1, hashOf(textBytes(text)))
}

function answerOf(dictionary: Dictionary, number: number, isInQuotes: boolean): string {
  const out = Buffer.alloc(dictionary.sizeOf(number, isInQuotes))
  equal(dictionary.copy(number, isInQuotes, new Bytes(out), 0), out.length)
  return out.toString()
}

test('a dictionary finds the values added, also after it has grown, and no others', () => {
  const dictionary = new Dictionary(LIMITS)
  for (let i = 0; i < LIMITS.values; i++) equal(add(dictionary, `value ${i}`), i)
  equal(dictionary.isFull(0), true)
  for (let i = 0; i < LIMITS.values; i++) equal(find(dictionary, `value ${i}`), i)
  for (const text of ['', 'value', 'value 5000', 'value 1 ', 'valuf 1']) equal(find(dictionary, text), -1)
})

test('values of one hash stay apart', () => {
  const dictionary = new Dictionary(LIMITS)
  const texts = ['a', 'b', '', 'ab', 'aa'].map(textBytes)
  for (const [i, text] of texts.entries()) equal(dictionary.add(text, 0, text.bytes.length, 7), i)
  for (const [i, text] of texts.entries()) equal(dictionary.find(text, 0, text.bytes.length, 7), i)
})

test('answers have quotes where the file has none, and lengths of every kind', () => {
  const dictionary = new Dictionary(LIMITS)
  const texts = ['', 'a,b', 'é', 'x'.repeat(31), 'y'.repeat(100_000)]
  for (const text of texts) {
    const number = add(dictionary, text)
    equal(dictionary.stateOf(number), STATE.waiting)
    dictionary.replaceByText(number, text, text.includes(','))
    equal(dictionary.stateOf(number), STATE.replaced)
  }
  deepEqual(
    texts.map((_, i) => answerOf(dictionary, i, true)),
    texts,
  )
  equal(answerOf(dictionary, 1, false), '"a,b"')
  equal(answerOf(dictionary, 2, false), 'é')
  dictionary.leave(0, STATE.notFound)
  equal(dictionary.stateOf(0), STATE.notFound)
})

test('a dictionary is full by the bytes of its values, and by the bytes of its answers', () => {
  const limits = { values: 100, bytes: 100 }
  const byValues = new Dictionary(limits)
  add(byValues, 'x'.repeat(100))
  equal(byValues.isFull(0), true)
  const byAnswers = new Dictionary(limits)
  const number = add(byAnswers, 'x')
  equal(byAnswers.isFull(0), false)
  byAnswers.replaceByText(number, 'y'.repeat(100), false)
  equal(byAnswers.isFull(0), true)
  const byExpected = new Dictionary(limits)
  const waiting = add(byExpected, 'x')
  equal(byExpected.isFull(99), false)
  equal(byExpected.isFull(100), true)
  byExpected.leave(waiting, STATE.notFound)
  equal(byExpected.isFull(100), false)
})

test('a full dictionary still answers until the next is full; values that never come again get a small one', () => {
  const remembered = new Remembered({ values: 20_000, bytes: 1024 * 1024 })
  const pieces: Dictionary[] = []
  remembered.begin(pieces)
  const fill = (name: string): number => {
    const { young } = remembered
    for (let i = 0; !young.isFull(0); i++) add(young, `${name} ${i}`)
    remembered.makeRoom(pieces, 0)
    return young.count
  }
  equal(fill('first'), 20_000)
  equal(find(remembered.old, 'first 7'), 7)
  equal(pieces[remembered.oldAt], remembered.old)
  equal(pieces[remembered.youngAt], remembered.young)
  equal(fill('few'), 2 ** 13)
  equal(find(remembered.old, 'first 7'), -1)
  for (let i = 0; i < 2 ** 10; i++) remembered.hit()
  equal(fill('again'), 2 ** 13)
  equal(fill('many'), 20_000)
})

test('different values are counted: exactly up to a million, and nearly beyond', () => {
  const distinct = new DistinctCount()
  for (let i = 0; i < 300_000; i++) distinct.addValue(i % 100_000)
  equal(distinct.count, 100_000)
  distinct.addValue('7')
  equal(distinct.count, 100_001)
  for (let i = 0; i < 3_000_000; i++) distinct.addValue(i)
  const off = distinct.count / 3_000_001 - 1
  equal(Math.abs(off) < 0.01, true, `${off}`)
})

test('a hash is of all bytes and their number', () => {
  const seen = new Set<string>()
  const hash = new Hash()
  const texts = [
    '',
    '\0',
    '\0\0',
    '\0\0\0\0',
    '\0\0\0\0\0',
    '7',
    '\x004',
    'a',
    'abcd',
    'abce',
    'abcda',
    'aabcd',
  ]
  for (const text of texts) {
    const bytes = textBytes(text)
    hash.set(bytes, 0, bytes.bytes.length)
    seen.add(`${hash.high} ${hash.low}`)
    notEqual(hash.high, hash.low)
  }
  equal(seen.size, texts.length)
})
