// Runs the tests, prints the slowest files, and ends with `N passed, N failed`. Arguments are substrings of
// file names: only those run. `--embedded` leaves out the tests that need etcd.
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { relative, resolve } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { findEtcd } from '../src/node/etcd-binary.ts'

const args = process.argv.slice(2)
const embedded = args.includes('--embedded')
const wanted = args.filter((arg) => !arg.startsWith('--'))
const files = globSync(['src/**/*.test.ts', 'test/**/*.test.ts'])
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
  .filter((file) => !embedded || !file.startsWith('test/cluster/'))
  .sort()

/** etcd is found or built once, before test/cluster/ runs. Without etcd those tests count as one failure. */
const needsEtcd = files.some((file) => file.startsWith('test/cluster/'))
let runnable = files
let passed = 0
let failed = 0
let skipped = 0

if (needsEtcd) {
  try {
    findEtcd(undefined, (text) => console.error(`coffer: ${text}`))
  } catch (error) {
    const reason = error instanceof Error ? error.message : error
    console.log(`✖ test/cluster: ${reason}; \`npm test -- --embedded\` needs no etcd`)
    failed++
    runnable = files.filter((file) => !file.startsWith('test/cluster/'))
  }
}

if (wanted.length === 0) {
  for (const [name, ...command] of [
    ['types', 'tsc', '--noEmit'],
    ['lint', 'biome', 'check', '--error-on-warnings', '.'],
  ] as const) {
    const result = spawnSync(command[0], command.slice(1), { stdio: ['ignore', 'inherit', 'inherit'] })
    if (result.status === 0) passed++
    else failed++
    console.log(`${result.status === 0 ? '✔' : '✖'} ${name}`)
  }
}

/** Duration of a test file, and its slowest test. */
type Timing = { milliseconds: number; slowest?: { readonly name: string; readonly milliseconds: number } }
const SLOWEST = 10
const WHOLE_MS = 60 * 60_000
const timings = new Map<string, Timing>()

function timingOf(file: string): Timing {
  const path = relative(process.cwd(), file)
  const timing = timings.get(path) ?? { milliseconds: 0 }
  timings.set(path, timing)
  return timing
}

// `forceExit`: a file whose tests have ended, but that holds a timer or a socket, would be waited for without end.
const stream = run({ files: runnable, concurrency: 2, timeout: 600_000, forceExit: true })
const unfinished = new Set(runnable.map((file) => resolve(file)))
// No time limit of the runner holds where a process that a test started keeps the output of its file open.
setTimeout(() => {
  console.log(`✖ not within ${WHOLE_MS / 60_000} minutes: ${[...unfinished].join(', ')}`)
  failed++
  spawnSync('pkill', ['-KILL', '-P', `${process.pid}`])
  process.exit()
}, WHOLE_MS).unref()
stream.on('test:complete', ({ file, name, details }) => {
  if (file === undefined || details.type === 'suite') return
  const timing = timingOf(file)
  const milliseconds = details.duration_ms
  // The runner reports every file as a test named by the file's path; that duration includes the start of a
  // process.
  if (resolve(name) === file) {
    timing.milliseconds = milliseconds
    unfinished.delete(file)
  } else if (milliseconds > (timing.slowest?.milliseconds ?? 0)) timing.slowest = { name, milliseconds }
})
stream.on('test:summary', (summary) => {
  if (summary.file !== undefined) return
  const { tests, passed: good, skipped: left, todo } = summary.counts
  failed += tests - good - left - todo
  passed += good
  skipped += left + todo
})
stream.compose(spec).pipe(process.stdout)

function printSlowest(): void {
  const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`
  const slowest = [...timings].sort((a, b) => b[1].milliseconds - a[1].milliseconds).slice(0, SLOWEST)
  const width = Math.max(...slowest.map(([file]) => file.length))
  console.log(`slowest files, of ${timings.size}, and their slowest test`)
  for (const [file, timing] of slowest) {
    const test = timing.slowest ? `  ${seconds(timing.slowest.milliseconds)} ${timing.slowest.name}` : ''
    console.log(`${seconds(timing.milliseconds).padStart(8)}  ${file.padEnd(width)}${test}`)
  }
}

process.on('exit', () => {
  if (timings.size > 0) printSlowest()
  if (passed === 0) failed++
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
  if (failed > 0) process.exitCode = 1
})
