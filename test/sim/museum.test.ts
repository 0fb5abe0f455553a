// The museum has no bug that cannot be planted any more: each text is in the source, once.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { EXHIBITS } from './exhibits.ts'
import { PLANTED } from './planted.ts'
import { changed } from './planting.ts'
import { SCENARIOS } from './scenarios.ts'

const bugs = [...Object.entries(PLANTED), ...Object.entries(SCENARIOS)]
const SOURCE = new URL('../../src/', import.meta.url)

test('each text that a bug takes the place of is in the source, once', () => {
  for (const [name, { changes }] of bugs) {
    assert.ok(changes.length > 0, name)
    const sources = new Map<string, string>()
    for (const change of changes) {
      const source = sources.get(change.file) ?? readFileSync(new URL(change.file, SOURCE), 'utf8')
      sources.set(change.file, changed(source, change))
    }
  }
})

test('each scenario has a test, and no two bugs have one name', () => {
  for (const { test: file, only = '' } of Object.values(SCENARIOS))
    assert.ok(readFileSync(file, 'utf8').includes(only), `${file} has no test of "${only}"`)
  const names = [...bugs.map(([name]) => name), ...Object.keys(EXHIBITS)]
  assert.equal(new Set(names).size, names.length)
})
