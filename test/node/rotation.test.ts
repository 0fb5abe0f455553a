// Laws 2 and 3 under load: clients tokenize values out of 2,000 under two owners while epochs rotate. COFFER_SECONDS
// makes it longer.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { History } from '../sim/laws.ts'
import { type Random, seeded } from '../sim/seed.ts'
import { Vault } from './child.ts'

const CLIENTS = 64
const ROTATIONS = 10
const SECONDS = Number(process.env.COFFER_SECONDS ?? 8)

async function client(vault: Vault, history: History, random: Random, running: () => boolean): Promise<void> {
  while (running()) {
    const owner = random.pick(['a', 'b'])
    const values = Array.from({ length: 1 + random.below(20) }, () => `value ${random.below(2000)}`)
    const asked = performance.now()
    const { epoch, tokens } = await vault.tokenize(values, owner)
    const answered = performance.now()
    for (const [i, value] of values.entries()) {
      history.issued({ owner, value, epoch, token: tokens[i], asked, answered })
    }
  }
}

async function rotations(vault: Vault, history: History): Promise<void> {
  for (let epoch = 2; epoch <= ROTATIONS / 2 + 1; epoch++) {
    for (const owner of ['a', 'b']) {
      await new Promise((resolve) => setTimeout(resolve, (SECONDS * 1000) / (ROTATIONS + 1))) // spread over the run
      const asked = performance.now()
      const { json } = await vault.call('/rotate-epoch', { to: epoch }, owner)
      assert.deepEqual(json, { epoch, rotated: true })
      history.rotations.push({ owner, epoch, asked, answered: performance.now() })
      const next = await vault.tokenize(['value 1'], owner)
      assert.equal(next.epoch, epoch, 'law 3: the request after the acknowledged rotation')
    }
  }
}

test(`${CLIENTS} clients, ${ROTATIONS} rotations: one token a value, no epoch mixed or late`, async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const vault = new Vault()
  const history = new History()
  try {
    await vault.start()
    let running = true
    const clients = Array.from({ length: CLIENTS }, () => client(vault, history, random, () => running))
    await Promise.race([rotations(vault, history), Promise.all(clients)])
    running = false
    await Promise.all(clients)
    history.checkEpochs()
    assert.ok(history.issues.length > 10_000, `${history.issues.length} answers`)
    for (const owner of ['a', 'b']) {
      const tokens = history.tokens.filter((issue) => issue.owner === owner)
      for (let from = 0; from < tokens.length; from += 5000) {
        const part = tokens.slice(from, from + 5000)
        const { values, not_found: missing } = await vault.detokenize(
          part.map((issue) => issue.token),
          owner,
        )
        assert.deepEqual(missing, [])
        assert.deepEqual(
          values,
          part.map((issue) => issue.value),
        )
      }
    }
    t.diagnostic(`${history.issues.length} values, ${history.tokens.length} tokens`)
  } finally {
    await vault.remove()
  }
})
