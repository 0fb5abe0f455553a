// Input that is refused: each fault is told by line and column, never with a value.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OperatorError, UsageError } from '../../src/errors.ts'
import { FakeVault } from './fake-vault.ts'
import { type Case, splice } from './splice.ts'

const SECRET = 'secret'

async function fault(content: string | Buffer, options: Partial<Case> = {}, size = 3): Promise<string> {
  const vault = new FakeVault()
  const columns = ['ssn']
  for (const part of [undefined, () => size]) {
    const run = splice(content, { vault, columns, ...options, ...(part ? { part } : {}) })
    const error: unknown = await run.then(
      () => assert.fail('the file was taken'),
      (reason) => reason,
    )
    assert.ok(error instanceof OperatorError, String(error))
    const text = `${error.exitCode}: ${error.message}: ${error.hint}`
    assert.doesNotMatch(text, new RegExp(SECRET), 'no value in an error')
    assert.ok(error.hint, 'a next step')
    if (part) return text
  }
  return assert.fail()
}

test('CSV: a column that is not there, or there twice, or named twice: exit 2 with the names', async () => {
  assert.match(
    await fault('a,"b,c"\n1,2\n'),
    /^2: there is no column "ssn": the columns are "a" \(#1\), "b,c" \(#2\)$/,
  )
  assert.match(await fault('ssn,a,ssn\n'), /^2: column "ssn" is there twice: name the column by its place/)
  assert.match(await fault('ssn,a\n', { columns: ['ssn', '#1'] }), /^2: column "#1" is named twice/)
  assert.match(await fault('ssn,a\n', { columns: ['#3'] }), /^2: there is no column "#3"/)
  assert.match(await fault(''), /^2: the file is empty/)
  assert.match(await fault('\ufeff'), /^2: the file is empty/)
  assert.match(await fault('\ufeff\n'), /^2: there is no column "ssn": the columns are "" \(#1\)/)
  assert.match(await fault('\ufeffss'), /^2: there is no column "ssn": the columns are "ss" \(#1\)/)
  assert.match(await fault('\ufeff"ss'), /^1: line 1: a quote is left open/)
  assert.match(await fault('# comment\nssn,a\n'), /^2: there is no column "ssn"/)
  assert.match(await fault('ssn,b\n', { newField: 'b' }), /^2: there is a column "b" already/)
})

test('CSV: a name beats a place, and a header alone is a file', async () => {
  const vault = new FakeVault()
  const { bytes } = await splice('a,#1\nx,y\n', { vault, columns: ['#1'] })
  assert.equal(bytes.toString(), `a,#1\nx,${vault.token('y')}\n`)
  const header = await splice('a,ssn', { vault, columns: ['ssn'] })
  assert.equal(header.bytes.toString(), 'a,ssn')
  assert.equal(header.report.rows, 0)
  const wide = Array.from({ length: 2000 }, (_, i) => `c${i}`).join()
  const out = await splice(`${wide}\n${wide}\n`, { vault, columns: ['c1999'] })
  assert.ok(out.bytes.toString().endsWith(`,c1998,${vault.token('c1999')}\n`))
})

test('CSV: malformed records are refused with their physical line', async () => {
  const head = 'id,ssn\n"two\r\nlines",secret\n'
  assert.match(await fault(`${head}1,secret,3\n`), /^1: line 4: 3 fields, but the header has 2/)
  assert.match(await fault(`${head}1\n`), /^1: line 4: 1 field, but the header has 2/)
  assert.match(await fault(`${head}1,sec"ret\n`), /^1: line 4: column "ssn": a quote inside a field/)
  assert.match(await fault(`${head}1,"secret" \n`), /^1: line 4: column "ssn": text behind the closing quote/)
  assert.match(await fault(`${head}"1"x,secret\n`), /^1: line 4: column "id": text behind the closing quote/)
  assert.match(await fault(`${head}1,2\n3,"secret\n\n`), /^1: line 5: a quote is left open/)
})

test('CSV: values that no vault takes are refused; bytes outside the column stay', async () => {
  const notText = Buffer.from([0xff, 0x0a])
  const latin1 = Buffer.concat([Buffer.from('id,ssn\n1,2\n3,'), notText])
  assert.match(await fault(latin1), /^1: line 3: column "ssn": the value is not UTF-8/)
  const long = 'x'.repeat(32 * 1024)
  assert.match(
    await fault(`ssn\n${long}x\n`),
    /^1: line 2: column "ssn": the value is longer than 32768 bytes/,
  )
  assert.match(await fault(`ssn\n"${long}""y"\n`), /^1: line 2: column "ssn": the value is longer/)
  const vault = new FakeVault()
  const fits = await splice(Buffer.concat([Buffer.from(`ssn,a\n${long},`), notText]), {
    vault,
    columns: ['ssn'],
  })
  assert.deepEqual(fits.bytes.subarray(-2), notText)
})

test('a record over 16 MiB is refused, of either format', async () => {
  const long = 'x'.repeat(16 * 1024 * 1024)
  const part = (): number => 1024 * 1024
  const run = (content: string, options: Partial<Case>): Promise<unknown> =>
    splice(content, { vault: new FakeVault(), columns: ['ssn'], part, ...options })
  const tooLong = { name: 'OperatorError', message: /^line 2: the record is longer than 16777216 bytes/ }
  await assert.rejects(run(`a,ssn\n${long},1\n`, {}), tooLong)
  await assert.rejects(run(`a,ssn\n"${long}\n`, {}), /^OperatorError: line 2: a quote is left open/)
  await assert.rejects(run(`{}\n{"ssn":1,"a":"${long}"}\n`, { format: 'ndjson' }), tooLong)
  await assert.rejects(run(`[{"ssn":1},\n{"ssn":1,"a":"${long}"}]`, { format: 'json' }), tooLong)
})

test('white space of any length before the records is passed on', async () => {
  let read = 0
  let held = 0 // bytes read before the first part is written
  const part = (): number => {
    read += 1024 * 1024
    return 1024 * 1024
  }
  const written = async (): Promise<void> => {
    held ||= read
  }
  for (const space of ['\r\n', '  ']) {
    const before = `\ufeff${space.repeat(4 * 1024 * 1024)} `
    const lines = before.split('\n').length
    for (const [record, end] of [
      ['[{"ssn":', '}]'],
      ['{"ssn":', '}'],
    ]) {
      const options = { vault: new FakeVault(), columns: ['ssn'], format: 'json', part } as const
      read = 0
      held = 0
      const { bytes } = await splice(`${before}${record}"x"${end}`, { ...options, written })
      assert.equal(bytes.toString(), `${before}${record}"${options.vault.token('x')}"${end}`)
      assert.ok(held < before.length / 2, `${held} bytes are held`)
      const broken = { name: 'OperatorError', message: new RegExp(`^line ${lines}: `) }
      await assert.rejects(splice(`${before}${record}x${end}`, options), broken)
    }
    await assert.rejects(splice(before, { vault: new FakeVault(), columns: ['ssn'], format: 'json', part }), {
      message: /the file is empty/,
    })
  }
})

test('JSON lines: each line is one record', async () => {
  const of = (content: string): Promise<string> => fault(content, { format: 'ndjson' })
  const head = '{"ssn":"secret"}\n\n'
  assert.match(await of(`${head}{"ssn":1},{"ssn":2}\n`), /^1: line 3: the line is not one record/)
  assert.match(await of(`${head}{"ssn":1\n"a":2}\n`), /^1: line 3: (?:the line is not one record|not acc)/)
  assert.match(await of(`${head}{"ssn":"a\nb"}\n`), /^1: line 3: (?:the line is not one record|not acc)/)
  assert.match(await of(`${head}{"ssn":1} {"ssn":2}\n`), /^1: line 3: not acceptable JSON/)
  assert.match(
    await of(`${head}{"ssn":1,"ssn":2}\n`),
    /^1: line 3: not acceptable JSON: expected each member once/,
  )
  assert.match(await of(`${head}{"ssn":"secret`), /^1: line 3: not acceptable JSON/)
  assert.match(await of(`${head}{"ssn":["secret"]}\n`), /^1: line 3: column "ssn": the value is an array/)
  assert.match(
    await of(`${head}{"ssn":{"a":"secret"}}\n`),
    /^1: line 3: column "ssn": the value is an object/,
  )
  assert.match(
    await of(`${head}{"ssn":12345678901234567890}\n`),
    /line 3: column "ssn": the number is beyond 2\^53 - 1: .*--as text/,
  )
  assert.match(await of(`${head}{"ssn":1e400}\n`), /line 3: column "ssn": the number is beyond/)
  assert.match(await of('{"a":1,"b":"secret"}\n'), /^2: no record has "ssn": the first record has "a", "b"$/)
  const bytes = Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('","ssn":"')])
  const bad = Buffer.concat([bytes, Buffer.from([0xc3]), Buffer.from('"}\n')])
  assert.match(await fault(bad, { format: 'ndjson' }), /^1: line 1: column "ssn": the value is not UTF-8/)
  const vault = new FakeVault()
  const good = await splice(Buffer.concat([bytes, Buffer.from('"}')]), {
    vault,
    format: 'ndjson',
    columns: ['ssn'],
  })
  assert.equal(good.report.replaced, 1)
})

test('JSON lines: a record that is cut is told at its line, wherever the next records end', async () => {
  const record = '{"ssn":"b","tags":[1,2]}'
  for (const [at, cut] of [
    [2, '{"ssn":"b","tags":[1'],
    [2, '{"ssn":"b","tags":[1,'],
    [2, '{"ssn":"b","tags":{"a":1'],
    [2, '{"ssn":"b'],
    [4_000, '{"ssn":"b","tags":["1'],
    [5_000, '{"ssn":"b","tags":[1'],
  ] as const) {
    const lines = Array.from({ length: 5_000 }, (_, i) => (i + 1 === at ? cut : record))
    const told = await fault(lines.join('\n'), { format: 'ndjson' }, 16_384)
    assert.match(told, new RegExp(`^1: line ${at}: `), cut)
  }
})

test('JSON lines: a file without records', async () => {
  for (const content of ['', '\ufeff', '\ufeff\n', ' \n\n\t\n', '\n']) {
    const options = { vault: new FakeVault(), columns: ['ssn'], format: 'ndjson' } as const
    const { bytes, report } = await splice(content, options)
    assert.deepEqual([bytes.toString(), report.rows], [content, 0])
  }
})

test('JSON: an array that is not one is refused', async () => {
  const of = (content: string): Promise<string> => fault(content, { format: 'json' })
  for (const end of [',]', ',,{"ssn":2}]', '', '}', '] x', ' {"ssn":3}]', ',']) {
    assert.match(await of(`[\n{"ssn":"secret"}${end}`), /^1: line 2: /, end)
  }
  assert.match(await of('[,{"ssn":1}]'), /^1: line 1: /)
  assert.match(await of('{"ssn":1}{"ssn":2}'), /^1: line 1: /)
  assert.match(await of('{"ssn":1},{"ssn":2}'), /^1: line 1: /)
  assert.match(await of(' \n'), /^1: line 1: the file is empty/)
  assert.match(await of('\ufeff'), /^1: line 1: the file is empty/)
  const vault = new FakeVault()
  const empty = await splice(' [ ] \n', { vault, format: 'json', columns: ['ssn'] })
  assert.equal(empty.bytes.toString(), ' [ ] \n')
})

test('paths that are not valid: exit 2', async () => {
  for (const columns of [['a..b'], [''], ['a', 'a'], ['a[0]']])
    await assert.rejects(
      async () => splice('{}', { vault: new FakeVault(), format: 'json', columns }),
      (error) => error instanceof UsageError,
      columns.join(),
    )
})

test('records in which a path has no place are counted; null is a place', async () => {
  const lines = ['{"ssn":"a"}', '{"ssn":null}', '{}', '[1]', '17', '{"ssn":"b"}']
  const vault = new FakeVault()
  const { report } = await splice(lines.join('\n'), { vault, format: 'ndjson', columns: ['ssn'] })
  assert.deepEqual([report.rows, report.unmatched, report.values, report.replaced], [6, 3, 2, 2])
})

test('--as text takes digits and names as they are written; null stays', async () => {
  const vault = new FakeVault()
  const content = '[{"a":1.50},{"a":true},{"a":null},{"a":12345678901234567890}]'
  const options = { vault, format: 'json', columns: ['a'], asText: true } as const
  const { bytes } = await splice(content, options)
  const back = await splice(bytes, { ...options, operation: 'detokenize' })
  assert.equal(back.bytes.toString(), '[{"a":"1.50"},{"a":"true"},{"a":null},{"a":"12345678901234567890"}]')
})
