// Values of every size, back from their tokens: memory is bounded, whatever the answers are.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CsvFormat } from '../../src/table/csv.ts'
import { sourceOf } from '../../src/table/source.ts'
import { Splice } from '../../src/table/splice.ts'
import type { Scalar, Vault } from '../../src/table/vault.ts'
import { seeded } from '../sim/seed.ts'
import { byBytes } from './fake-vault.ts'

const MIB = 1024 * 1024
const LONGEST = 32 * 1024

/** Token i stands for a value of `sizes[i]` bytes, which begins with i. */
class SizedVault implements Vault {
  readonly #sizes: readonly number[]
  /** Bytes of all answers, and of the largest answer to a request after the first ten. */
  answered = 0
  largest = 0
  #requests = 0

  constructor(sizes: readonly number[]) {
    this.#sizes = sizes
  }

  token(i: number): string {
    return `tok_1_${String(i).padStart(32, '0')}`
  }

  value(i: number): string {
    return String(i).padEnd(this.#sizes[i], 'x').slice(0, this.#sizes[i])
  }

  async detokenize(tokens: readonly (string | null)[]): ReturnType<Vault['detokenize']> {
    await new Promise(setImmediate)
    const values: Scalar[] = tokens.map((token) => this.value(Number(token?.slice('tok_1_'.length))))
    const bytes = values.reduce<number>((sum, value) => sum + String(value).length, 0)
    if (this.#requests++ >= 10) this.largest = Math.max(this.largest, bytes)
    this.answered += bytes
    return { values, notFound: [] }
  }

  tokenize(): never {
    assert.fail('nothing is tokenized')
  }

  retokenize(): never {
    assert.fail('nothing is tokenized again')
  }
}

/** Compares each row. Returns the most bytes of answers that were not written, and the largest part. */
async function detokenized(
  sizes: readonly number[],
): Promise<{ readonly ahead: number; readonly part: number; readonly largest: number }> {
  const vault = new SizedVault(sizes)
  const format = new CsvFormat({ columns: ['ssn'], delimiter: ',' })
  const run = new Splice({
    operation: 'detokenize',
    format,
    vault: byBytes(vault),
    allowTokens: false,
    mixedEpochs: false,
  })
  async function* content(): AsyncGenerator<Buffer> {
    yield Buffer.from('id,ssn\n')
    for (let from = 0; from < sizes.length; from += 500) {
      const rows = sizes.slice(from, from + 500).map((_, i) => `${from + i},${vault.token(from + i)}\n`)
      yield Buffer.from(rows.join(''))
    }
  }
  const most = { ahead: 0, part: 0 }
  let written = 0
  let row = -1
  let rest = ''
  for await (const part of run.run(sourceOf(content()))) {
    most.ahead = Math.max(most.ahead, vault.answered - written)
    most.part = Math.max(most.part, part.length)
    written += part.length
    const lines = (rest + part.toString()).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const value = row >= 0 ? vault.value(row) : 'ssn'
      const expected = `${row >= 0 ? row : 'id'},${value === '' ? '""' : value}`
      if (line !== expected) assert.fail(`row ${row} has ${line.length} bytes`)
      row++
    }
  }
  assert.equal(rest, '')
  assert.equal(row, sizes.length)
  return { ...most, largest: vault.largest }
}

const same = (count: number, size: number): number[] => new Array<number>(count).fill(size)
const random = seeded()

for (const [name, sizes, mostAhead] of [
  ['of 0 bytes', same(20_000, 0), 1],
  ['of 60 bytes', same(100_000, 60), 8],
  ['of 2,000 bytes', same(60_000, 2000), 16],
  ['of 32 KiB', same(4000, LONGEST), 24],
  ['of 0 to 32 KiB', same(8000, 0).map(() => random.below(LONGEST + 1)), 24],
  ['of 10 bytes, then of 8,000', [...same(60_000, 10), ...same(30_000, 8000)], 96],
  ['of 10 bytes, now and then of 32 KiB', same(60_000, 0).map((_, i) => (i % 500 < 5 ? LONGEST : 10)), 48],
] as const) {
  test(`values ${name}: at most ${mostAhead} MiB of answers wait to be written`, async () => {
    console.log(`COFFER_SEED=${random.seed}`)
    const { ahead, part, largest } = await detokenized(sizes)
    assert.ok(ahead <= mostAhead * MIB, `${ahead} bytes of answers were not written`)
    assert.ok(part <= 2 * MIB, `a part has ${part} bytes`)
    const isSudden = name.includes('then')
    assert.ok(isSudden || largest <= 2 * MIB, `an answer has ${largest} bytes`)
  })
}

test('values longer than a part of the output come whole', async () => {
  const { part } = await detokenized(same(300, 10).map((size, i) => (i % 100 < 3 ? 3 * MIB : size)))
  assert.ok(part >= 3 * MIB, `a part has ${part} bytes`)
})
