// The statements and the commands of docs/duckdb.md run as they stand there.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fine } from '../cli/cli.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

const TEXT = readFileSync(join(import.meta.dirname, '../../docs/duckdb.md'), 'utf8')

let vault: SqlVault

before(async () => {
  vault = await startSqlVault()
})

after(() => vault?.[Symbol.asyncDispose]())

function blockOf(language: string): string {
  return new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(TEXT)?.[1] ?? assert.fail(language)
}

test('the statements, over files with tokens', async () => {
  const options = { env: vault.env, cwd: vault.folder.path }
  writeFileSync(vault.folder.file('in.csv'), 'ssn,city\n00123,Bern\n')
  const files = `COPY (SELECT tokenize('123-45-6789') AS ssn, 'Bern' AS city) TO 'patients.parquet';
    COPY (SELECT tokenize('123-45-6789') AS ssn, i AS visit FROM range(3) r(i)) TO 'visits.parquet';`
  await fine(['sql', '-c', files], options)
  const statements = blockOf('sql').split(/(?<=;\n)/)
  const printed: string[] = []
  for (const input of statements) printed.push(await fine(['sql', '--csv'], { ...options, input }))
  assert.equal(printed[0], 'city,count_star()\nBern,3')
  assert.match(printed[1], /^ssn,city\ntok_1_\w{32},Bern$/)
  assert.match(printed[2], /^value,ssn,visit\n(?:123-45-6789,tok_1_\w{32},\d\n?){3}$/)
  const back = await fine(
    ['sql', '--csv', '-c', "SELECT detokenize(ssn) AS ssn, city FROM 'out.parquet'"],
    options,
  )
  assert.equal(back, 'ssn,city\n00123,Bern')
})

test('a rotation, and the migration of tables, by the commands', async () => {
  const cwd = vault.folder.file('migration')
  mkdirSync(cwd)
  const rows = (year: number): string =>
    Array.from({ length: 300 }, (_, i) => `${i % 100},${year},"a, b"\r\n`).join('')
  const ssns = Array.from({ length: 100 }, (_, i) => `${i},name ${i}\n`).join('')
  writeFileSync(join(cwd, 'patients.csv'), `ssn,name\n${ssns}`)
  for (const year of [2025, 2026])
    writeFileSync(join(cwd, `visits-${year}.csv`), `ssn,year,note\r\n${rows(year)}`)
  const bin = join(import.meta.dirname, '../../bin')
  const env = { ...process.env, ...vault.env, PATH: `${bin}${delimiter}${process.env.PATH}` }
  const printed: string[] = []
  const blocks = [...TEXT.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block)
  const lines = blocks.join('').split('\n').filter(Boolean)
  const run = (line: string): string => execFileSync('sh', ['-c', line], { cwd, env, encoding: 'utf8' })
  for (const line of lines) printed.push(run(line))
  const told = printed.filter((text) => /^(?:joined|epoch,)/.test(text)).map((text) => text.trim())
  assert.deepEqual(told, ['joined\n300', 'epoch,n\n1,300\n2,300', 'joined\n300', 'epoch,n\n2,300'])
  const { epochs } = await vault.client.epochs()
  assert.deepEqual(
    epochs.map(({ tokens }) => tokens >= 100),
    [true, true],
  )
  // A text that is not found has no new token, and stays.
  const sql = 'coffer sql clinic.duckdb --csv --write -c'
  run(`${sql} "INSERT INTO visits VALUES ('unknown', 2025, 'x')"`)
  writeFileSync(join(cwd, 'map.csv'), 'ssn,new\nunknown,\n')
  run(lines.find((line) => line.includes('UPDATE')) ?? assert.fail('no UPDATE'))
  assert.equal(run(`${sql} "SELECT ssn FROM visits WHERE note = 'x'"`), 'ssn\nunknown\n')
})
