// Pages on the inside name what is there: each guarantee of docs/design.md a test by its file and title, the ways
// through the code in docs/architecture.md the files that they pass.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const ROOT = join(import.meta.dirname, '..')
const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8')

/** Titles of the tests of a file, with `…` in place of each expression in a template. */
function titlesOf(file: string): string[] {
  const calls = textOf(file).matchAll(/\btest\(\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|`([^`]*)`)/g)
  return [...calls].map(([, single, double, template]) =>
    (single ?? double ?? template).replace(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, '…').replace(/\\(.)/g, '$1'),
  )
}

test('docs/design.md: each guarantee names a test that is there', () => {
  const [, after = assert.fail('docs/design.md has no guarantees')] =
    textOf('docs/design.md').split('\n## Guarantees\n')
  const [guarantees] = after.split('\n## ')
  const rows = guarantees
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1)
  for (const row of rows) {
    const [, cell = '', file = '', title = ''] = /^\| (.*) \| `([^`]+)` "(.*)" \|$/.exec(row) ?? []
    assert.ok(file.endsWith('.test.ts') && existsSync(join(ROOT, file)), `${row} names a file of tests`)
    assert.ok(titlesOf(file).includes(title), `${file} has no test "${title}" (${cell})`)
  }
  const laws = rows.flatMap((row) => /^\| (\d+)\./.exec(row)?.[1] ?? [])
  assert.deepEqual(laws, ['1', '2', '3', '4', '5', '6', '7', '8', '9'], 'each law has a row')
  assert.ok(rows.length >= 20, `${rows.length} guarantees`)
})

test('docs/architecture.md: each file that it names is there', () => {
  const named = textOf('docs/architecture.md').matchAll(/`([a-z-]+(?:\/[a-z-]+)*\.ts)`/g)
  const files = new Set([...named].map(([, file]) => file))
  assert.ok(files.size >= 40, `${files.size} files`)
  for (const file of files)
    assert.ok(existsSync(join(ROOT, file)) || existsSync(join(ROOT, 'src', file)), `${file} is there`)
})
