// The requests of a conversion: their sizes, their faults, rotations on the way, and what is counted.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CofferError } from '../../src/client/error.ts'
import { CsvFormat } from '../../src/table/csv.ts'
import { sourceOf } from '../../src/table/source.ts'
import { Splice } from '../../src/table/splice.ts'
import { byBytes, FakeVault } from './fake-vault.ts'
import { splice } from './splice.ts'

const columns = ['ssn']

function lines(count: number, value: (i: number) => string = String): string {
  return `id,ssn\n${Array.from({ length: count }, (_, i) => `${i},v${value(i)}\n`).join('')}`
}

test('equal values are asked for once, and a request has at most 20,000 values', async () => {
  const vault = new FakeVault()
  const { bytes, report } = await splice(
    lines(90_000, (i) => String(i % 50_000)),
    {
      vault,
      columns,
      part: () => 64 * 1024,
    },
  )
  assert.deepEqual(vault.requests, [20_000, 20_000, 10_000])
  assert.deepEqual(report, {
    rows: 90_000,
    values: 90_000,
    distinct: 50_000,
    replaced: 90_000,
    notFound: 0,
    unmatched: 0,
    epochs: [1],
  })
  const expected = Array.from({ length: 90_000 }, (_, i) => `${i},${vault.token(`v${i % 50_000}`)}\n`)
  assert.equal(bytes.toString(), `id,ssn\n${expected.join('')}`)
})

test('more values than are remembered: each place has its token, and values that come again late are asked for again', async () => {
  const different = 400_000
  class PlainVault extends FakeVault {
    override token(value: unknown): string {
      return `tok_1_${String(value).padStart(32, '0')}`
    }
  }
  const vault = new PlainVault()
  const value = (i: number): number => 1000 + (i % different)
  // Every other value came 500 values before: mostly in the same piece.
  const near = (i: number): number => value((i >> 1) + (i % 2) * (different - 500))
  const rows = Array.from({ length: 600_000 }, (_, i) => `${value(i)},${i % 3}x,${near(i)}\n`)
  const { bytes, report } = await splice(`a,b,c\n${rows.join('')}`, {
    vault,
    columns: ['a', 'b', 'c'],
    part: () => 300_000,
  })
  const found = bytes.toString().split('\n')
  for (let i = 0; i < rows.length; i++) {
    const expected = [value(i), `${i % 3}x`, near(i)].map((field) => vault.token(field)).join(',')
    if (found[i + 1] !== expected) assert.equal(found[i + 1], expected, `row ${i}`)
  }
  assert.equal(report.distinct, different + 3)
  assert.equal(report.replaced, 1_800_000)
  const asked = vault.requests.reduce((sum, count) => sum + count)
  assert.ok(asked > 2 * different && asked < report.replaced, `${asked}`)
})

test('at most three requests are on their way, and pieces keep their order', async () => {
  const vault = new FakeVault()
  let now = 0
  let most = 0
  const held: (() => void)[] = []
  vault.before = async () => {
    most = Math.max(most, ++now)
    // The third one lets the earlier ones go, the last first; the end lets all go.
    await new Promise<void>((resolve) => {
      held.push(resolve)
      if (held.length >= 3)
        held
          .splice(0)
          .reverse()
          .map((release) => release())
      else setTimeout(resolve, 200)
    })
    now--
  }
  const { bytes } = await splice(lines(150_000), { vault, columns, part: () => 256 * 1024 })
  assert.equal(most, 3)
  const found = bytes.toString().split('\n').slice(1, -1)
  for (const [i, line] of found.entries()) assert.ok(line.startsWith(`${i},tok_`), line)
})

test('all other answers may come while a part is written', async () => {
  const vault = new FakeVault()
  const gates = [1, 2, 3].map(() => Promise.withResolvers<void>())
  let asked = 0
  vault.before = () => {
    const gate = gates[asked++]
    if (asked === gates.length) gates[0].resolve()
    return gate.promise
  }
  const written = async (): Promise<void> => {
    if (asked < gates.length) return // the header
    for (const { resolve } of gates) resolve()
    await new Promise(setImmediate) // behind all that the answers begin
  }
  const { report } = await splice(lines(50_000), { vault, columns, part: () => 16 * 1024, written })
  assert.equal(report.replaced, 50_000)
})

test('a request that is too large is halved until it fits; a single value that is, is told by its line', async () => {
  const vault = new FakeVault()
  const tooLarge = (values: readonly unknown[], most: number): void => {
    if (values.length > most) throw new CofferError('answer-too-large', 'too large', { status: 413 })
  }
  vault.before = (values) => tooLarge(values, 3000)
  const { report } = await splice(lines(10_000), { vault, columns })
  assert.equal(report.replaced, 10_000)
  assert.ok(vault.requests.length > 4)
  vault.before = (values) => tooLarge(values, 0)
  await assert.rejects(splice(lines(3), { vault, columns }), /line 2: column "ssn"/)
})

test('a refused value is told by line and column, a refused key as such', async () => {
  const vault = new FakeVault()
  vault.before = (values) => {
    const at = values.indexOf('v7')
    const members = { path: `values[${at}]`, reason: 'r' }
    if (at >= 0) throw new CofferError('already-a-token', 'v is a token', { status: 422, members })
  }
  const content = `"id\n",ssn\n${lines(9).slice('id,ssn\n'.length)}`
  await assert.rejects(splice(content, { vault, columns, part: () => 5 }), {
    name: 'OperatorError',
    message: 'line 10: column "ssn": the value is a token already',
  })
  vault.before = () => {
    throw Object.assign(new Error('no'), { slug: 'forbidden', members: { needs: 'tokenize' } })
  }
  await assert.rejects(
    splice(lines(1), { vault, columns }),
    /OperatorError: the API key lacks the right `tokenize`/,
  )
  vault.before = () => {
    throw new CofferError('unreachable', 'nobody')
  }
  await assert.rejects(splice(lines(1), { vault, columns }), { slug: 'unreachable' })
})

test('a rotation on the way is refused, or accepted with both epochs, and all tokens resolve', async () => {
  const vault = new FakeVault()
  vault.before = async () => {
    if (vault.requests.length === 1) return
    await new Promise(setImmediate) // the first request is answered
    vault.epoch = 2
  }
  const content = lines(40_000)
  await assert.rejects(
    splice(content, { vault, columns }),
    /the epoch was rotated meanwhile: .* epochs 1 and 2/,
  )
  vault.requests.length = 0
  vault.epoch = 1
  const out = await splice(content, { vault, columns, mixedEpochs: true })
  assert.deepEqual(out.report.epochs, [1, 2])
  const back = await splice(out.bytes, { vault, columns, operation: 'detokenize' })
  assert.equal(back.bytes.toString(), content)
  assert.deepEqual(back.report.epochs, [1, 2])
})

test('retokenize: only other tokens are new content, and epochs are those of tokens that were found', async () => {
  const vault = new FakeVault()
  const old = await vault.tokenize(['a', 'b'])
  vault.epoch = 2
  const { tokens } = await vault.tokenize(['b'])
  const content = `ssn\n${[...old.tokens, ...tokens, ...tokens].join('\n')}\n`
  const options = { vault, columns, operation: 'retokenize' } as const
  const { bytes, report } = await splice(content, options)
  assert.equal(bytes.toString(), `ssn\n${vault.token('a')}\n${`${tokens[0]}\n`.repeat(3)}`)
  const counts = { rows: 4, values: 4, distinct: 3, notFound: 0, unmatched: 0 }
  assert.deepEqual(report, { ...counts, replaced: 2, epochs: [2] })
  const again = await splice(bytes, options)
  assert.ok(again.bytes.equals(bytes))
  assert.deepEqual(again.report, { ...counts, distinct: 2, replaced: 0, epochs: [2] })
  const map = await splice(bytes, { ...options, newField: 'new' })
  assert.equal(map.report.replaced, 4)
  assert.match(map.bytes.toString(), /^ssn,new\n(?:(tok_2_\w+),\1\n){4}$/)
  const foreign = await splice(content, { ...options, vault: new FakeVault() })
  assert.deepEqual(foreign.report, { ...counts, notFound: 4, replaced: 0, epochs: [] })
  const json = JSON.stringify({ ssn: tokens[0] })
  const same = await splice(json, { ...options, format: 'json' })
  assert.deepEqual([same.bytes.toString(), same.report.replaced], [json, 0])
})

test('detokenize and retokenize: content that is no token stays, of any length and bytes', async () => {
  const vault = new FakeVault()
  const { tokens } = await vault.tokenize(['x'])
  const long = 'y'.repeat(40_000)
  const latin1 = Buffer.from([0x5a, 0x6f, 0xeb])
  const csv = [`ssn\n${tokens[0]}\n${long}\n"${long}""y"\n`, latin1, `\n"`, latin1, `"\n`]
  const texts = [long, `\\n${long}`, `\\n`].map((text) => `{"ssn":"${text}"}\n`)
  const json = [
    `{"ssn":"${tokens[0]}"}\n`,
    ...texts,
    '{"ssn":"',
    latin1,
    '\\n"}\n',
    `{"ssn":1${'0'.repeat(40_000)}}\n`,
  ]
  for (const [format, parts] of [
    ['csv', csv],
    ['ndjson', json],
  ] as const) {
    const content = Buffer.concat(parts.map((part) => Buffer.from(part)))
    for (const operation of ['detokenize', 'retokenize'] as const) {
      const { bytes, report } = await splice(content, { vault, columns, format, operation })
      const value = operation === 'detokenize' ? 'x' : `${tokens[0]}`
      assert.equal(bytes.toString('latin1'), content.toString('latin1').replace(`${tokens[0]}`, value))
      assert.deepEqual([report.replaced, report.notFound], [operation === 'detokenize' ? 1 : 0, 0])
    }
    await assert.rejects(
      splice(content, { vault: new FakeVault(), columns, format }),
      /line \d: column "ssn"/,
    )
  }
})

test('tokens that are not found stay and are counted by place; what is no token is not counted', async () => {
  const vault = new FakeVault()
  const strange = new FakeVault().token('x')
  const { tokens } = await vault.tokenize(['a,b'])
  const content = `id,ssn\n1,${tokens[0]}\n2,${strange}\n3,${strange}\n4,plain\n5,\n6,""\n`
  const { bytes, report } = await splice(content, { vault, columns, operation: 'detokenize' })
  assert.equal(bytes.toString(), content.replace(`${tokens[0]}`, '"a,b"'))
  assert.deepEqual([report.values, report.replaced, report.notFound], [5, 1, 2])
})

test('retokenize, and --map: records stay and get a last field', async () => {
  const vault = new FakeVault()
  const strange = new FakeVault().token('x')
  const { tokens } = await vault.tokenize(['a'])
  vault.epoch = 2
  const content = `id,"ssn"\r\n1,${tokens[0]}\n2,"${tokens[0]}"\r3,${strange}\r\n4,\n5,plain`
  const options = { vault, columns, operation: 'retokenize' } as const
  const fresh = vault.token('a')
  const replaced = await splice(content, options)
  assert.equal(replaced.bytes.toString(), content.replaceAll(`${tokens[0]}`, fresh))
  for (const part of [() => 2, () => 1000]) {
    const mapped = await splice(content, { ...options, newField: 'new,er', part })
    assert.equal(
      mapped.bytes.toString(),
      `id,"ssn","new,er"\r\n1,${tokens[0]},${fresh}\n2,"${tokens[0]}",${fresh}\r3,${strange},\r\n4,,\n5,plain,`,
    )
  }
})

test('while the source pauses, all answers to its records come out; a failure meanwhile ends the run', async () => {
  const vault = new FakeVault()
  const run = new Splice({
    operation: 'tokenize',
    format: new CsvFormat({ columns, delimiter: ',' }),
    vault: byBytes(vault),
    allowTokens: false,
    mixedEpochs: false,
  })
  const answered = Promise.withResolvers<void>()
  const failed = Promise.withResolvers<void>()
  async function* source(): AsyncGenerator<Buffer> {
    yield Buffer.from('id,ssn\n1,v1\n2,v')
    await answered.promise
    yield Buffer.from('2\n')
    await failed.promise
  }
  let out = ''
  const ended = assert.rejects(async () => {
    for await (const bytes of run.run(sourceOf(source()))) {
      out += bytes.toString()
      if (!out.endsWith(`1,${vault.token('v1')}\n`)) continue
      vault.before = () => {
        throw new CofferError('unreachable', 'no node answers')
      }
      answered.resolve()
    }
  }, /no node answers/)
  await ended
  failed.resolve()
  assert.equal(out, `id,ssn\n1,${vault.token('v1')}\n`)
})
