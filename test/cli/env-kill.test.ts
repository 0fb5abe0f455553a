// coffer env encrypt, killed before every step: after each kill the file is the old file or the new file, and
// the same command completes the work.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Coffer } from '../../src/client/index.ts'
import { coffer, Folder, fine, type NodeProcess, type Result, refused, startVault } from './cli.ts'

const PRELOAD = fileURLToPath(new URL('./kill-at.ts', import.meta.url))

const vault = new Folder()
let node: NodeProcess
let env: { COFFER_URL: string; COFFER_KEY: string }
let client: Coffer

before(async () => {
  ;({ node, env, client } = await startVault(vault))
})

after(async () => {
  client?.close()
  await node?.[Symbol.asyncDispose]()
  vault[Symbol.dispose]()
})

/** `coffer env` with its steps counted, killed at a given step. */
function watched(
  args: readonly string[],
  file: string,
  more: Readonly<Record<string, string>>,
): Promise<Result> {
  return coffer(['env', ...args], {
    env: { ...env, NODE_OPTIONS: `--import ${PRELOAD}`, KILL_FILE: file, ...more },
  })
}

function encryptKilled(file: string, prefix: string, at: string | number): Promise<Result> {
  return watched(['encrypt', file, '--prefix', prefix], file, { KILL_AT: String(at) })
}

const OLD = '# one\nA=1\nB="2\n3"\n'
const renewed = (prefix: string): string => `# one\nA=coffer://${prefix}A\nB="coffer://${prefix}B"\n`

/**
 * Kills a run before a step, and repeats the run. Returns what the kill left, undefined where the run had
 * ended before.
 */
async function killedBefore(step: number): Promise<string | undefined> {
  using folder = new Folder()
  const file = folder.file('.env')
  const prefix = `k${step}/`
  writeFileSync(file, OLD)
  const { code, stderr } = await encryptKilled(file, prefix, step)
  const text = readFileSync(file, 'utf8')
  const { names } = await client.secretNames({ prefix })
  if (code === 0) {
    assert.equal(text, renewed(prefix))
    return undefined
  }
  assert.equal(code, null, stderr)
  assert.ok(text === OLD || text === renewed(prefix), `step ${step}: ${text}`)
  assert.ok(names.length === 0 || names.length === 2, `step ${step}: ${names}`)
  if (text !== OLD) assert.equal(names.length, 2, `step ${step}: references to what is not there`)

  await fine(['env', 'encrypt', file, '--prefix', prefix], { env })
  assert.equal(readFileSync(file, 'utf8'), renewed(prefix), `step ${step}`)
  assert.deepEqual(readdirSync(folder.path), ['.env'], `step ${step}`)
  const values = { A: '1', B: '2\n3' }
  for (const [key, value] of Object.entries(values)) {
    const { versions } = await client.secretHistory(prefix + key)
    assert.equal(versions.length, 1, `step ${step}`)
    assert.equal((await client.secret(prefix + key)).value, value)
  }
  return `${text === OLD ? 'old' : 'new'}, ${names.length}`
}

test('killed before any step', async () => {
  const found: (string | undefined)[] = []
  // Two at a time: most of the time a process starts.
  while (!found.includes(undefined)) {
    const step = found.length + 1
    found.push(...(await Promise.all([killedBefore(step), killedBefore(step + 1)])))
  }
  const steps = found.indexOf(undefined)
  assert.ok(steps > 20, `there were only ${steps} steps`)
  assert.deepEqual([...new Set(found.slice(0, steps))].sort(), ['new, 2', 'old, 0', 'old, 2'])
})

test('changed after it was killed between the commit and the new file: the names are told, and what to do works', async () => {
  using folder = new Folder()
  const file = folder.file('.env')
  writeFileSync(file, OLD)
  assert.equal((await encryptKilled(file, 'c/', 'answered')).code, null)
  const changed = 'A=1\nNEW=4\nB=5\n'
  writeFileSync(file, changed)
  const args = ['env', 'encrypt', file, '--prefix', 'c/']
  const told = await refused(1, args, { env })
  assert.match(told, /has changed/)
  assert.ok(
    told.includes(`${file}:1: A=coffer://c/A\n`) && told.includes(`${file}:3: B=coffer://c/B\n`),
    told,
  )
  assert.ok(!told.includes('c/NEW'))
  assert.equal(readFileSync(file, 'utf8'), changed)
  assert.deepEqual(readdirSync(folder.path), ['.env'], 'the journal has no more use')
  assert.deepEqual((await client.secretNames({ prefix: 'c/' })).names, ['c/A', 'c/B'])

  await fine(['secret', 'update', 'c/B'], { env, input: '5' })
  writeFileSync(file, 'A=coffer://c/A\nNEW=4\nB=coffer://c/B\n')
  await fine(args, { env })
  assert.equal(await fine(['env', 'expand', file], { env }), changed.trimEnd())
})

test('killed with -o: the file stays, and the other one comes', async () => {
  using folder = new Folder()
  const file = folder.file('.env')
  const out = folder.file('out')
  writeFileSync(file, OLD)
  assert.equal((await encryptKilled(file, 'o/', 'answered')).code, null)
  await fine(['env', 'encrypt', file, '--prefix', 'o/', '-o', out], { env })
  assert.deepEqual([readFileSync(file, 'utf8'), readFileSync(out, 'utf8')], [OLD, renewed('o/')])
  assert.deepEqual(readdirSync(folder.path).sort(), ['.env', 'out'])
})

test('the journal is durable before the request, the file before the journal goes', async () => {
  using folder = new Folder()
  const file = folder.file('.env')
  writeFileSync(file, OLD)
  const { code } = await watched(['encrypt', file, '--prefix', 's/'], file, { KILL_LOG: folder.file('log') })
  assert.equal(code, 0)
  const steps = readFileSync(folder.file('log'), 'utf8').split('\n')
  const counted = ['writeSync', 'fsyncSync', 'request', 'answered', 'renameSync', 'rmSync']
  assert.deepEqual(
    steps.filter((step) => counted.includes(step)),
    [
      ...['writeSync', 'fsyncSync', 'fsyncSync'], // the journal, and its directory
      ...['request', 'answered'],
      ...['writeSync', 'fsyncSync', 'renameSync', 'fsyncSync'], // the file, and its directory
      ...['rmSync', 'fsyncSync'], // the journal
    ],
  )
})

test('expand: OUT is the old file or the new file, whole; what a killed run left is private, and goes', async () => {
  using folder = new Folder()
  const file = folder.file('.env')
  const out = folder.file('out')
  await client.createSecret('x/a', 'value')
  writeFileSync(file, 'A=coffer://x/a\n')
  const old = 'what was there before'
  writeFileSync(out, old, { mode: 0o644 })
  const modeOf = (path: string): number => statSync(path).mode & 0o777
  for (const step of ['writeSync', 'fchmodSync', 'fsyncSync', 'renameSync']) {
    const { code } = await watched(['expand', file, '-o', out, '--force'], file, { KILL_AT: step })
    assert.equal(code, null)
    assert.deepEqual([readFileSync(out, 'utf8'), modeOf(out)], [old, 0o644], step)
    const [left, ...others] = readdirSync(folder.path).filter((name) => name.startsWith('.out.'))
    assert.deepEqual([modeOf(folder.file(left)), others], [0o600, []], step)
  }
  await fine(['env', 'expand', file, '-o', out, '--force'], { env })
  assert.deepEqual([readFileSync(out, 'utf8'), modeOf(out)], ['A=value\n', 0o600])
  assert.deepEqual(readdirSync(folder.path).sort(), ['.env', 'out'])
})
