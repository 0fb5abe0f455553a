// The replica of one node, built again from its embedded ledger.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { Client } from './load.ts'
import { BULK, BULK_CONNECTIONS } from './parts.ts'
import { format } from './table.ts'
import { atRandom, inOrder } from './values.ts'
import { Vault } from './vault.ts'
import { knownTokens, newValues, runOf, TokenTexts } from './work.ts'

const OWNER = 'bench'
const MAPPINGS = 20_000_000
const ROUNDS = 3

export async function measureRebuild(bench: Bench): Promise<void> {
  const count = Math.round((MAPPINGS * bench.size) / BULK) * BULK
  const vault = new Vault(join(bench.dir, 'rebuild'), [OWNER], bench.flags)
  const texts = new TokenTexts(count)
  const took: number[] = []
  try {
    await vault.start()
    bench.say(`rebuild: ${format(count)} mappings`)
    const client = new Client(vault, BULK_CONNECTIONS)
    await client.run(newValues(runOf(OWNER, BULK, count, inOrder(0)), texts))
    client.close()
    await vault.settle()
    for (let round = 1; round <= ROUNDS; round++) {
      await vault.stop()
      vault.deleteReplica()
      took.push((await vault.start()) / 1000)
      const { anon } = vault.memory()
      bench.say(`rebuild: ready after ${format(took[round - 1])} s, ${format(anon / 1e6)} MB of memory`)
      const one = new Client(vault, 1)
      await one.run(knownTokens(runOf(OWNER, BULK, 20_000, atRandom(count, round)), texts))
      one.close()
    }
  } finally {
    await vault.remove()
  }
  const [least, median] = took.toSorted((a, b) => a - b)
  const note = `best ${format(least)} s of ${took.map(format).join(', ')}`
  bench.rows.push({ what: `rebuild of ${format(count)} mappings, embedded`, value: median, unit: 's', note })
}
