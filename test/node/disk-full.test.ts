// A full disk: 503 `disk-full`, nothing acknowledged is lost, what is known is served, and it works again when there is
// room. Needs the right to mount a small file system of its own.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../cli/cli.ts'
import { freePort, Vault } from './child.ts'

const MEGABYTES = 48
const MEBIBYTE = 1024 * 1024

function fill(dir: string, leave: number): void {
  const { bavail, bsize } = statfsSync(dir)
  try {
    writeFileSync(join(dir, 'filler'), Buffer.alloc(Math.max(0, bavail * bsize - leave)))
  } catch (error) {
    // The node writes too: it may take the last page first.
    if (!(error instanceof Error) || !error.message.includes('ENOSPC')) throw error
  }
}

async function loadUntilFull(vault: Vault): Promise<{ values: string[]; tokens: string[] }[]> {
  const acknowledged: { values: string[]; tokens: string[] }[] = []
  for (let batch = 0; batch < 200; batch++) {
    const values = Array.from({ length: 2000 }, (_, i) => `a value of some length ${batch} ${i}`)
    const { status, json } = await vault.call('/tokenize', { values })
    if (status !== 200) {
      assert.equal(status, 503)
      assert.equal(json.type, '/problems/disk-full')
      return acknowledged
    }
    acknowledged.push({ values, tokens: json.tokens as string[] }) // the contract's answer
  }
  return assert.fail('the disk never got full')
}

/** /ready turns within 5 s. */
async function untilReady(vault: Vault, status: number): Promise<void> {
  const deadline = Date.now() + 5000
  while ((await vault.call('/ready')).status !== status)
    assert.ok(Date.now() < deadline, `/ready did not turn ${status}`)
}

/** Known tokens are served while the node waits for room. */
async function untilServing(vault: Vault, tokens: string[]): Promise<void> {
  const deadline = Date.now() + 10_000
  for (;;) {
    const answer = await vault.call('/detokenize', { tokens }).catch(() => undefined)
    if (answer?.status === 200) {
      assert.deepEqual(answer.json.values, ['first'])
      assert.equal((await vault.call('/ready')).status, 503)
      assert.equal((await vault.call('/ready?for=reads')).status, 200)
      return
    }
    assert.ok(Date.now() < deadline, 'the node serves nothing')
  }
}

for (const leave of [20, 0]) {
  test(`a full disk is told, survived and recovered from (${leave} MiB left by others)`, async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'coffer-full-'))
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${MEGABYTES}m`, 'tmpfs', root])
    if (mounted.status !== 0) {
      rmSync(root, { recursive: true })
      return t.skip('no right to mount a file system')
    }
    const dir = join(root, 'vault')
    mkdirSync(dir)
    const vault = new Vault(dir, { port: await freePort() })
    try {
      await vault.start()
      const first = await vault.tokenize(['first'])
      fill(root, leave * 1024 * 1024)
      const acknowledged = await loadUntilFull(vault)
      assert.equal(acknowledged.length > 0, leave > 0)
      assert.deepEqual((await vault.detokenize(first.tokens)).values, ['first'])
      assert.deepEqual((await vault.tokenize(['first'])).tokens, first.tokens)
      await untilReady(vault, 503)
      await vault.end('SIGKILL')
      const started = vault.start() // on the full disk: alive, and what is known is served, until there is room
      await untilServing(vault, first.tokens)
      rmSync(join(root, 'filler'))
      await started
      const deadline = Date.now() + 10_000
      let again = await vault.call('/tokenize', { values: ['more'] })
      while (again.status !== 200 && Date.now() < deadline)
        again = await vault.call('/tokenize', { values: ['more'] })
      assert.equal(again.status, 200)
      await untilReady(vault, 200)
      for (const { values, tokens } of acknowledged)
        assert.deepEqual((await vault.detokenize(tokens)).values, values)
      await vault.end('SIGKILL')
      await vault.start()
      for (const { values, tokens } of acknowledged)
        assert.deepEqual((await vault.detokenize(tokens)).values, values)
    } finally {
      await vault.end('SIGKILL')
      spawnSync('umount', ['-l', root])
      rmSync(root, { recursive: true, force: true })
    }
  })
}

test('a checkpoint without room is not begun: told once, nothing stalls; with room the stop writes it', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'coffer-full-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'tmpfs', root])
  if (mounted.status !== 0) {
    rmSync(root, { recursive: true })
    return t.skip('no right to mount a file system')
  }
  const vault = new Vault(join(root, 'vault'))
  vault.checkpointEvery = 100_000
  const load = async (batches: number, name: string): Promise<void> => {
    for (let batch = 0; batch < batches; batch++)
      await vault.tokenize(Array.from({ length: 10_000 }, (_, i) => `${name} ${batch} ${i}`))
  }
  const checkpoints = (): string[] =>
    readdirSync(join(vault.data, 'replica')).filter((name) => name.startsWith('checkpoint'))
  const told = (): number =>
    readFileSync(join(vault.data, 'events.ndjson'), 'utf8').split('no checkpoint: the disk has no room')
      .length - 1
  try {
    await vault.start()
    await load(9, 'before')
    fill(root, 11 * MEBIBYTE) // a checkpoint of 100,000 mappings takes 3 MiB and more, and 9.6 must stay
    await load(2, 'after')
    await until('the missing checkpoint is told', () => told() === 1)
    await load(3, 'later')
    assert.deepEqual([checkpoints(), told()], [[], 1])
    assert.equal((await vault.call('/ready')).status, 200)
    rmSync(join(root, 'filler'))
    await vault.end()
    assert.match(checkpoints().join(' '), /^checkpoint-[0-9a-f]{16}$/)
    await vault.start()
    assert.equal((await vault.tokenize(['before 0 0'])).epoch, 1)
  } finally {
    await vault.end('SIGKILL')
    spawnSync('umount', ['-l', root])
    rmSync(root, { recursive: true, force: true })
  }
})
