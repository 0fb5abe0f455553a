import assert from 'node:assert/strict'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Folder } from './cli/cli.ts'
import { pidIn, sendSignal, signalGroup } from './signals.ts'

test('no signal goes to the own group, to init, to all processes, or to no number', () => {
  for (const pid of [0, 1, -1, -process.pid, Number.NaN, 1.5, undefined]) {
    assert.throws(() => sendSignal(pid, 'SIGCONT'), /a process id/)
    assert.throws(() => signalGroup(pid, 'SIGCONT'), /a process id/)
  }
})

test('a process id is read once its line is whole', () => {
  using folder = new Folder()
  const file = folder.file('n1.pid')
  assert.equal(pidIn(file), undefined)
  for (const text of ['', '\n', '12', '0\n', '-12\n', '12\n13\n']) {
    writeFileSync(file, text)
    assert.equal(pidIn(file), undefined, JSON.stringify(text))
  }
  writeFileSync(file, '4711\n')
  assert.equal(pidIn(file), 4711)
})

test('tests send signals by sendSignal and signalGroup', () => {
  const files = globSync('{test,bench,tools}/**/*.ts').concat(globSync('src/**/*.test.ts'))
  const direct = files.filter((file) =>
    /process\.kill\((?!pid, 0\)|process\.pid,)/.test(readFileSync(file, 'utf8')),
  )
  assert.deepEqual(direct, ['test/signals.ts'])
})
