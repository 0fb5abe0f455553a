// The start of one node with its replica in place: after a clean stop, and after kill -9.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { Client } from './load.ts'
import { BULK, BULK_CONNECTIONS } from './parts.ts'
import { format, type Row } from './table.ts'
import { atRandom, inOrder } from './values.ts'
import { Vault } from './vault.ts'
import { knownTokens, newValues, runOf, TokenTexts } from './work.ts'

const OWNER = 'bench'
const MAPPINGS = 20_000_000
const ROUNDS = 3
const CLEAN = { most: 4 }
const KILLED = { most: 20 }

export async function measureStart(bench: Bench): Promise<void> {
  const count = Math.round((MAPPINGS * bench.size) / BULK) * BULK
  const vault = new Vault(join(bench.dir, 'start'), [OWNER], bench.flags)
  const texts = new TokenTexts(count)
  const clean: number[] = []
  const killed: number[] = []
  const start = async (took: number[]): Promise<void> => {
    took.push((await vault.start()) / 1000)
    const client = new Client(vault, 1)
    await client.run(knownTokens(runOf(OWNER, BULK, 20_000, atRandom(count, took.length)), texts))
    client.close()
  }
  try {
    await vault.start()
    bench.say(`start: ${format(count)} mappings`)
    const client = new Client(vault, BULK_CONNECTIONS)
    await client.run(newValues(runOf(OWNER, BULK, count, inOrder(0)), texts))
    client.close()
    await vault.settle()
    await vault.kill()
    const first: number[] = []
    await start(first)
    bench.say(`start: ready ${format(first[0])} s after the load was killed`)
    for (let round = 1; round <= ROUNDS; round++) {
      await vault.stop()
      await start(clean)
      await vault.kill()
      await start(killed)
      bench.say(
        `start: ready ${format(clean[round - 1])} s after a stop, ${format(killed[round - 1])} s after a kill`,
      )
    }
    const what = `start of ${format(count)} mappings`
    bench.rows.push(
      row(`${what}, after a clean stop`, clean, CLEAN),
      row(`${what}, after kill -9`, killed, KILLED),
      row(`${what}, after kill -9 under load: pages after the checkpoint`, first, KILLED),
    )
  } finally {
    await vault.remove()
  }
}

/** The median. */
function row(what: string, took: readonly number[], aim: Row['aim']): Row {
  const value = took.toSorted((a, b) => a - b)[took.length >> 1]
  const note = took.length > 1 ? `of ${took.map(format).join(', ')} s` : ''
  return { what, value, unit: 's', ...(aim && { aim }), ...(note && { note }) }
}
