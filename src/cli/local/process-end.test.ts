// Processes that end in the midst of other work: exit codes, and no event before the end.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'

const MODULE = JSON.stringify(new URL('./process-end.ts', import.meta.url).href)
const LIMIT_MS = 20_000

/** Runs a script that has the module's functions. */
function run(script: string): { status: number | null; stdout: string; stderr: string } {
  const text = `import { endOnUncaughtErrors, endProcess } from ${MODULE}\n${script}`
  const args = ['--input-type=module', '--eval', text]
  return spawnSync(process.execPath, args, { encoding: 'utf8', timeout: LIMIT_MS, killSignal: 'SIGKILL' })
}

// Prints the events on one line, in order.
const WORK = `
import { writeSync } from 'node:fs'
process.on('exit', () => writeSync(1, 'exit'))
setTimeout(() => writeSync(1, 'work '), 20)
`

test('a process ends with its code, and no event is served before its end', () => {
  const { status, stdout, stderr } = run(`${WORK} setImmediate(() => endProcess(3))`)
  assert.deepEqual({ status, stdout, stderr }, { status: 3, stdout: 'exit', stderr: '' })
})

test('an uncaught error is told, and ends a process with 1 before any other event', () => {
  const { status, stdout, stderr } = run(
    `${WORK} endOnUncaughtErrors()\nsetImmediate(() => { throw new Error('an invariant is broken') })`,
  )
  assert.deepEqual({ status, stdout }, { status: 1, stdout: 'exit' })
  assert.match(stderr, /^Error: an invariant is broken$/m)
})
