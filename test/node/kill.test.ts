// Law 1 through kill -9: in the middle of bulk loads, at random moments, nothing acknowledged is lost, and the replica
// that survived holds the same as one rebuilt from nothing.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Random, seeded } from '../sim/seed.ts'
import { Vault } from './child.ts'

const ROUNDS = 20

type Acknowledged = { readonly values: string[]; readonly tokens: string[] }

/** Tokenizes until the node dies; keeps what was acknowledged. */
async function load(vault: Vault, name: string, acknowledged: Acknowledged[]): Promise<void> {
  for (let batch = 0; ; batch++) {
    const values = Array.from({ length: 400 }, (_, i) => `${name}-${batch}-${i}`)
    try {
      const { tokens } = await vault.tokenize(values)
      acknowledged.push({ values, tokens })
    } catch {
      return // the connection died with the node
    }
  }
}

async function assertResolves(vault: Vault, sets: readonly Acknowledged[]): Promise<void> {
  for (const { values, tokens } of sets)
    assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
}

async function round(vault: Vault, random: Random, name: string): Promise<Acknowledged[]> {
  const acknowledged: Acknowledged[] = []
  const loads = ['w', 'x', 'y', 'z'].map((client) => load(vault, `${name}${client}`, acknowledged))
  await new Promise((resolve) => setTimeout(resolve, 30 + random.below(250))) // the moment is what is random
  await vault.end('SIGKILL')
  await Promise.all(loads)
  return acknowledged
}

test(`kill -9 in the middle of a bulk load, ${ROUNDS} times: nothing acknowledged is lost`, async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const vault = new Vault()
  const all: Acknowledged[] = []
  try {
    for (let i = 0; i < ROUNDS; i++) {
      await vault.start()
      await assertResolves(vault, all.slice(-8))
      all.push(...(await round(vault, random, `r${i}`)))
    }
    await vault.start()
    assert.ok(all.length > ROUNDS, 'the loads got something through')
    await assertResolves(vault, all)
    const again = await vault.tokenize(all[0].values)
    assert.deepEqual(again.tokens, all[0].tokens)
    const digest = await vault.digest()
    await vault.end()
    rmSync(join(vault.data, 'replica'), { recursive: true })
    await vault.start()
    assert.equal(await vault.digest(), digest, 'a replica rebuilt from nothing holds the same')
    await assertResolves(vault, all)
  } finally {
    await vault.remove()
  }
})
