// Every program of examples/ runs from the checkout against a node; the output is compared.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { KEY_A, Vault } from './http/vault.ts'

const ROOT = join(import.meta.dirname, '..')
const MS = 30_000

type Run = { readonly args?: readonly string[]; readonly input?: string; readonly code?: number }

/** Runs an example to its end, asserts its exit code, and returns its output. */
async function example(
  vault: Vault,
  name: string,
  { args = [], input = '', code = 0 }: Run = {},
): Promise<{ out: string; err: string }> {
  const child = spawn(
    process.execPath,
    ['--conditions=coffer-source', join(ROOT, 'examples', name), ...args],
    {
      env: { PATH: process.env.PATH, COFFER_URL: vault.node.url, COFFER_KEY: KEY_A },
      stdio: 'pipe',
      timeout: MS,
    },
  )
  child.stdin.on('error', () => undefined).end(input) // an example may exit before reading all input
  const [out, err, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  assert.equal(status, code, err)
  return { out, err }
}

const linesOf = (out: string): string[] => out.split('\n').slice(0, -1)

test('every example is run here', () => {
  const names = globSync('*', { cwd: join(ROOT, 'examples') }).sort()
  assert.deepEqual(names, ['rotate-and-migrate.ts', 'secrets-if-match.ts', 'tokenize-stream.ts'])
})

test('tokenize-stream: records in batches, in their order, equal values with equal tokens', async () => {
  await using vault = await Vault.start({ fields: ['patient.ssn'] })
  const patients = Array.from({ length: 2500 }, (_, i) => ({ patient: { ssn: `ssn-${i % 1200}` }, visit: i }))
  const input = patients.map((patient) => `${JSON.stringify(patient)}\n`).join('')
  const { out, err } = await example(vault, 'tokenize-stream.ts', { input })
  assert.equal(err, '2500 records, 2500 values replaced\n')
  const records = linesOf(out).map((line) => JSON.parse(line))
  const tokens = await vault.tokens(patients.map(({ patient }) => patient.ssn))
  assert.deepEqual(
    records,
    tokens.map((token, visit) => ({ patient: { ssn: token }, visit })),
  )
})

test('rotate-and-migrate: tokens move to the next epoch; the same command again does nothing new', async () => {
  await using vault = await Vault.start()
  const before = await vault.tokens(['a', 'b', 'c'])
  const input = [...before, `tok_1_${'0'.repeat(32)}`].map((token) => `${token}\n`).join('')
  const first = await example(vault, 'rotate-and-migrate.ts', { args: ['2'], input })
  assert.equal(first.err, 'epoch 2 is open\nnot found: line 4\n3 tokens moved, 1 not found\n')
  const after = await vault.tokens(['a', 'b', 'c'])
  assert.deepEqual(
    linesOf(first.out),
    before.map((token, i) => `${token},${after[i]}`),
  )
  assert.ok(after.every((token) => token.startsWith('tok_2_')))
  const again = await example(vault, 'rotate-and-migrate.ts', { args: ['2'], input })
  assert.equal(again.out, first.out)
  assert.match(again.err, /^epoch 2 was open already\n/)
  const late = await example(vault, 'rotate-and-migrate.ts', { args: ['1'], input, code: 1 })
  assert.match(late.err, /^the active epoch is 2;/)
})

test('secrets-if-match: writers at once lose no update', async () => {
  await using vault = await Vault.start()
  const items = ['k-1', 'k-2', 'k-3', 'k-4']
  const runs = await Promise.all(
    items.map((item) => example(vault, 'secrets-if-match.ts', { args: ['app/KEYS', item] })),
  )
  const versions = runs.map(({ out }) => /^app\/KEYS has version (\d)\n$/.exec(out)?.[1])
  assert.deepEqual(versions.sort(), ['1', '2', '3', '4'])
  const { json } = await vault.get('/secrets/app%2FKEYS')
  assert.deepEqual(JSON.parse(String(json.value)).sort(), items)
})
