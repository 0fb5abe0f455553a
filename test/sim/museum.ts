// npm run museum [-- NAME…]: every planted bug must be found, each within a minute. A bug of the world (exhibits.ts,
// planted.ts) is looked for in one world after the other, from a random seed (COFFER_SEED), by a process of its own: prints
// bug, seed, seconds, and the law. A bug of scenarios.ts must fail a test that holds without the bug: prints bug, test,
// seconds, and what failed. Exit 1 where a bug is not found.
import assert from 'node:assert/strict'
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { signalGroup } from '../signals.ts'
import { EXHIBITS } from './exhibits.ts'
import { type Seen, seenIn } from './find.ts'
import { PLANTED } from './planted.ts'
import { SCENARIOS, type Scenario } from './scenarios.ts'
import { seeded } from './seed.ts'

/** Of CPU time, in worlds; and until a test that hangs is ended, on a machine with other work, too. */
const MOST_MS = 60_000
const HANGS_MS = 180_000
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const TOLD_CHARACTERS = 140
const wanted = process.argv.slice(2)
const first = seeded().seed

/** Undefined where the bug was not found. */
type Find = { readonly where: string; readonly law: string | undefined }
type Told = { readonly law: string | undefined; readonly seed: number; readonly worlds: number }

async function inWorlds(name: string): Promise<Find> {
  const child = fork(new URL('./exhibit-process.ts', import.meta.url), [name, `${first}`, `${MOST_MS}`])
  let told: Told | undefined
  child.on('message', (message: Told) => {
    told = message
  })
  await once(child, 'exit')
  return { where: `seed ${told?.seed}, world ${told?.worlds ?? 0}`, law: told?.law }
}

async function inScenario(name: string, scenario: Scenario): Promise<Find> {
  const { test: where } = scenario
  const preload = new URL(`./scenario-preload.ts?name=${encodeURIComponent(name)}`, import.meta.url)
  const without = await seenBy(scenario, '')
  if (without.kind !== 'passed')
    return { where: `${where} fails without the bug (${toldOf(without)})`, law: undefined }
  const seen = await seenBy(scenario, `--import=${preload}`)
  if (seen.kind === 'found') return { where, law: seen.law }
  return { where: `${where} does not fail as expected (${toldOf(seen)})`, law: undefined }
}

function toldOf(seen: Seen): string {
  if (seen.kind === 'passed') return seen.kind
  return seen.kind === 'found' ? seen.law : seen.why
}

/** What the test of the scenario shows; passed where the test is skipped, too. */
async function seenBy(scenario: Scenario, options: string): Promise<Seen> {
  const { test, only } = scenario
  const pattern = only === undefined ? [] : [`--test-name-pattern=${only.replace(/[^\w ]/g, '.')}`]
  const flags = ['--test-force-exit', '--test-reporter=tap', ...pattern]
  const child = spawn(process.execPath, [...flags, test], {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: options },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a group of processes, which ends with all that the test has started
  })
  const { pid } = child
  assert.ok(pid, 'the test has started')
  const end = (): void => {
    try {
      signalGroup(pid, 'SIGKILL')
    } catch {
      // All have ended.
    }
  }
  const timer = setTimeout(end, HANGS_MS)
  process.once('exit', end)
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part) => (text += part))
  const [code] = await once(child, 'close')
  clearTimeout(timer)
  process.off('exit', end)
  end() // a test that has failed may leave a node
  if (text.includes('has not once')) throw new Error(text)
  return seenIn({ code, text }, scenario)
}

async function show(name: string, find: () => Promise<Find>): Promise<void> {
  if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) return
  const began = performance.now()
  const { where, law } = await find()
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  console.log(`${name}: ${where}, ${seconds} s: ${law?.slice(0, TOLD_CHARACTERS) ?? 'NOT FOUND'}`)
  if (law === undefined) process.exitCode = 1
}

process.once('SIGINT', () => process.exit(1)) // ends the test that runs, too
for (const name of [...Object.keys(EXHIBITS), ...Object.keys(PLANTED)]) await show(name, () => inWorlds(name))
for (const [name, scenario] of Object.entries(SCENARIOS)) await show(name, () => inScenario(name, scenario))
