// Many small owners: 10,000 with three epochs of 100 mappings each.
import type { Bench } from './bench.ts'
import { Client } from './load.ts'
import { format, rowOf } from './table.ts'
import { inOrder } from './values.ts'
import { Vault } from './vault.ts'
import { knownTokens, newValues, type Run, rotations, TokenTexts } from './work.ts'

const EPOCHS = 3
const MAPPINGS = 100
const CONNECTIONS = 64

export async function measureOwners(bench: Bench): Promise<void> {
  const count = bench.quick ? 200 : 10_000
  const owners = Array.from({ length: count }, (_, i) => `owner-${i}`)
  const vault = new Vault(`${bench.dir}/owners`, owners, bench.flags)
  const name = `${format(count)} owners`
  const seconds = (what: string, ms: number, note?: string): void => {
    bench.rows.push({ what: `${name}: ${what}`, value: ms / 1000, unit: 's', ...(note ? { note } : {}) })
  }
  try {
    bench.say(`${name} × ${EPOCHS} epochs × ${MAPPINGS} mappings`)
    seconds('first start', await vault.start(), 'opens an epoch for each')
    const texts = await loadOwners(bench, vault, owners)
    const megabytes = { value: vault.memory().anon / 1e6, unit: 'MB' }
    bench.rows.push({ what: `${name}: memory`, ...megabytes })
    const { ledger, replica } = vault.disk()
    bench.rows.push({ what: `${name}: disk`, value: (ledger + replica) / 1e6, unit: 'MB' })
    await vault.stop()
    seconds('start with checkpoint', await vault.start())
    await checkOwners(vault, owners, texts)
    await vault.stop()
    vault.deleteCheckpoint()
    seconds('start without', await vault.start())
    await checkOwners(vault, owners, texts)
  } finally {
    await vault.remove()
  }
}

/** The tokens by epoch. */
async function loadOwners(bench: Bench, vault: Vault, owners: readonly string[]): Promise<TokenTexts[]> {
  const client = new Client(vault, CONNECTIONS)
  const started = performance.now()
  const all: TokenTexts[] = []
  try {
    for (let epoch = 1; epoch <= EPOCHS; epoch++) {
      if (epoch > 1) {
        const rotated = await client.run(rotations(owners, epoch))
        bench.rows.push(rowOf(`rotate-epoch of ${format(owners.length)} owners to ${epoch}`, rotated))
      }
      const texts = new TokenTexts(owners.length * MAPPINGS, epoch)
      const issued = await client.run(newValues(runOver(owners), texts))
      const what = `tokenize new of ${format(owners.length)} owners, epoch ${epoch}`
      bench.rows.push(rowOf(what, issued, {}, MAPPINGS))
      all.push(texts)
    }
    await vault.settle()
    const value = (performance.now() - started) / 1000
    bench.rows.push({ what: `${format(owners.length)} owners: load`, value, unit: 's' })
    const opened = await client.run(knownTokens(runOver(owners), all[0]))
    bench.rows.push(rowOf(`detokenize of ${format(owners.length)} owners in turn`, opened, {}, MAPPINGS))
    return all
  } finally {
    client.close()
  }
}

/** One request for each owner. */
function runOver(owners: readonly string[]): Run {
  return { batch: MAPPINGS, requests: owners.length, order: inOrder(0), owner: (n) => owners[n] }
}

async function checkOwners(
  vault: Vault,
  owners: readonly string[],
  all: readonly TokenTexts[],
): Promise<void> {
  const client = new Client(vault, 4)
  try {
    for (const texts of all) await client.run(knownTokens({ ...runOver(owners), requests: 100 }, texts))
  } finally {
    client.close()
  }
}
