import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Folder } from './cli/cli.ts'
import { pidIn, sendSignal, signalGroup } from './signals.ts'

test('no signal goes to the own group, to init, to all processes, or to no number', () => {
  for (const pid of [0, 1, -1, -process.pid, Number.NaN, 1.5, undefined]) {
    assert.throws(() => sendSignal(pid, 'SIGCONT'), /a process id/)
    assert.throws(() => signalGroup(pid, 'SIGCONT'), /a process id/)
  }
})

const BUSY = `
  const { Worker } = require('node:worker_threads')
  for (let i = 0; i < 3; i++) new Worker('for (;;);', { eval: true })
  setTimeout(() => { console.log('busy'); for (;;); }, 0)`

test('after SIGSTOP no thread of the process runs', { skip: process.platform !== 'linux' }, async () => {
  const busy = spawn(process.execPath, ['-e', BUSY])
  try {
    await once(busy.stdout, 'data')
    const tasks = `/proc/${busy.pid}/task`
    for (let round = 0; round < 100; round++) {
      sendSignal(busy.pid, 'SIGSTOP')
      const states = readdirSync(tasks).map((task) => readFileSync(`${tasks}/${task}/stat`, 'utf8'))
      for (const state of states) assert.match(state, /\) T /)
      sendSignal(busy.pid, 'SIGCONT')
    }
  } finally {
    busy.kill('SIGKILL')
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
