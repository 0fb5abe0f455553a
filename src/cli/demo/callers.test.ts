import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tokenized } from '../../client/index.ts'
import { Book, Callers, numberOf } from './callers.ts'

test('a book notices a second token of a value, and a second value of a token', () => {
  const book = new Book()
  book.add(1, 'a', 'tok_1_x')
  book.add(1, 'b', 'tok_1_y')
  book.add(1, 'a', 'tok_1_x')
  book.add(2, 'a', 'tok_2_x')
  assert.equal(book.conflicts, 0)
  assert.deepEqual(book.ofEpoch(1), { tokens: ['tok_1_x', 'tok_1_y'], values: ['a', 'b'] })
  assert.deepEqual(book.ofEpoch(2), { tokens: ['tok_2_x'], values: ['a'] })
  book.add(1, 'a', 'tok_1_z')
  assert.equal(book.conflicts, 1)
  book.add(1, 'c', 'tok_1_y')
  assert.equal(book.conflicts, 2)
})

test('numbers of callers differ, and begin as numbers of nobody', () => {
  const numbers = Array.from({ length: 20_000 }, (_, i) => numberOf(i))
  assert.equal(new Set(numbers).size, numbers.length)
  for (const number of numbers) assert.match(number, /^9\d\d-\d\d-\d{4}$/)
})

/** A client whose answers have the tokens `tok_<epoch>_<value>`. */
function answering(tokenOf: (value: string, i: number) => string) {
  return {
    tokenize: async (values: readonly unknown[]): Promise<Tokenized> => ({
      epoch: 1,
      tokens: values.map((value, i) => tokenOf(String(value), i)),
    }),
  }
}

test('callers note answers, answers that mix epochs, and conflicts', async () => {
  const book = new Book()
  const right = new Callers([answering((value) => `tok_1_${value}`)], book)
  await right.more(5)
  const { answers, failures } = await right.stop()
  assert.ok(answers.length >= 5 && answers.every(({ epoch, isMixed }) => epoch === 1 && !isMixed))
  assert.deepEqual([failures, book.conflicts], [[], 0])

  const mixed = new Callers([answering((value, i) => `tok_${(i % 2) + 1}_${value}`)], new Book())
  await mixed.more(1)
  assert.ok((await mixed.stop()).answers.every(({ isMixed }) => isMixed))

  const same = new Callers([answering(() => 'tok_1_same')], book)
  await same.more(1)
  await same.stop()
  assert.ok(book.conflicts > 0)
})

test('a failure ends the wait for answers, and is told', async () => {
  const failing = new Callers([{ tokenize: () => Promise.reject(new Error('no node')) }], new Book())
  await failing.more(1)
  const { answers, failures } = await failing.stop()
  assert.deepEqual(answers, [])
  assert.match(failures[0], /no node/)
})

test('callers end with the chapter that has failed', async () => {
  let calls = 0
  const client = answering((value) => {
    calls++
    return `tok_1_${value}`
  })
  const chapter = async (): Promise<void> => {
    await using calling = new Callers([client], new Book())
    await calling.more(2)
    throw new Error('the claim is not true')
  }
  await assert.rejects(chapter, /the claim is not true/)
  const before = calls
  const others = new Callers([answering((value) => `tok_1_${value}`)], new Book())
  await others.more(3)
  await others.stop()
  assert.equal(calls, before, 'no call after the chapter, while other callers had three answers')
})
