// Law 1 through kill -9 of real processes: at random moments of a load of tokens and secrets, with a checkpoint every
// 100,000 mappings, nothing acknowledged is lost, no start finds damage, the recorded checkpoint is used, and the
// replica that survived holds the same as one rebuilt from nothing. COFFER_ROUNDS=30 for all rounds.
import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LmdbStore } from '../../src/replica/lmdb-store.ts'
import { sleep } from '../../src/waiting.ts'
import { openApplier } from '../sim/applier.ts'
import { type Random, seeded } from '../sim/seed.ts'
import { Vault } from './child.ts'

const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 6)
const CHECKPOINT_EVERY = 100_000
const BATCH = 5000
const LEAST_CHECKPOINTS = 2

type Acknowledged = {
  readonly tokens: { readonly values: string[]; readonly tokens: string[] }[]
  readonly secrets: string[]
}

/** Tokenizes until the node dies; keeps what was acknowledged. */
async function loadTokens(vault: Vault, name: string, { tokens }: Acknowledged): Promise<void> {
  for (let batch = 0; ; batch++) {
    const values = Array.from({ length: BATCH }, (_, i) => `${name}-${batch}-${i}`)
    try {
      tokens.push({ values, tokens: (await vault.tokenize(values)).tokens })
    } catch {
      return // the connection died with the node
    }
  }
}

/** Creates secrets until the node dies. The value of a secret is its name. */
async function loadSecrets(vault: Vault, prefix: string, { secrets }: Acknowledged): Promise<void> {
  for (let i = 0; ; i++) {
    const name = `${prefix}-${i}`
    try {
      const { status } = await vault.call('/secrets', { name, value: name })
      if (status === 201) secrets.push(name)
    } catch {
      return
    }
  }
}

async function assertThere(vault: Vault, { tokens, secrets }: Acknowledged): Promise<void> {
  for (const { values, tokens: list } of tokens)
    assert.deepEqual(await vault.detokenize(list), { values, not_found: [] })
  for (const name of secrets) {
    const { status, json } = await vault.call(`/secrets/${name}`)
    assert.deepEqual([status, json.value], [200, name], `${name} was acknowledged`)
  }
}

/** Opens what the kill has left, as the next start will. Returns whether a checkpoint was there. */
async function assertWhole(vault: Vault): Promise<boolean> {
  const store = new LmdbStore(join(vault.data, 'replica'))
  try {
    const { state, pagesRead } = await openApplier(store)
    const covered = Number(state.meta.checkpoint.split(' ')[1] ?? 0)
    assert.equal(pagesRead, state.meta.pages - covered, 'the recorded checkpoint is used')
    return covered > 0
  } finally {
    await store.close()
  }
}

async function round(vault: Vault, random: Random, name: string): Promise<Acknowledged> {
  const acknowledged: Acknowledged = { tokens: [], secrets: [] }
  const loads = [
    ...['w', 'x'].map((client) => loadTokens(vault, `${name}${client}`, acknowledged)),
    ...['y', 'z'].map((client) => loadSecrets(vault, `${name}${client}`, acknowledged)),
  ]
  await sleep(300 + random.below(1200)) // the moment is what is random
  await vault.end('SIGKILL')
  await Promise.all(loads)
  return acknowledged
}

test(`kill -9 in the middle of a load, ${ROUNDS} times: nothing acknowledged is lost`, async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const vault = new Vault()
  vault.checkpointEvery = CHECKPOINT_EVERY
  const all: Acknowledged = { tokens: [], secrets: [] }
  let checkpoints = 0
  try {
    for (let i = 0; i < ROUNDS; i++) {
      await vault.start()
      const last = await round(vault, random, `r${i}`)
      if (await assertWhole(vault)) checkpoints++
      all.tokens.push(...last.tokens)
      all.secrets.push(...last.secrets)
      await vault.start()
      await assertThere(vault, { tokens: last.tokens.slice(-4), secrets: last.secrets })
      await vault.end('SIGKILL')
    }
    t.diagnostic(
      `${all.tokens.length * BATCH} tokens, ${all.secrets.length} secrets, ${checkpoints} checkpoints`,
    )
    assert.ok(all.tokens.length > ROUNDS && all.secrets.length > ROUNDS, 'the loads got something through')
    assert.ok(checkpoints >= LEAST_CHECKPOINTS, 'starts had checkpoints')
    await vault.start()
    await assertThere(vault, all)
    const again = await vault.tokenize(all.tokens[0].values)
    assert.deepEqual(again.tokens, all.tokens[0].tokens)
    const digest = await vault.digest()
    await vault.end()
    assert.ok(!existsSync(join(vault.data, 'replica.damaged')), 'no start has found damage')
    rmSync(join(vault.data, 'replica'), { recursive: true })
    await vault.start()
    assert.equal(await vault.digest(), digest, 'a replica rebuilt from nothing holds the same')
    await assertThere(vault, { tokens: all.tokens.slice(-4), secrets: all.secrets.slice(-100) })
  } finally {
    await vault.remove()
  }
})
