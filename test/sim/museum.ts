// npm run museum [-- NAME]: each planted bug is looked for in one world after the other, from a random seed (COFFER_SEED).
// Prints bug, seed, seconds, and the law. Exit 1 where a bug is not found within a minute.
import { EXHIBITS } from './exhibits.ts'
import { seeded } from './seed.ts'
import { runWorld } from './whole-world.ts'

const MOST_MS = 60_000
const [wanted = ''] = process.argv.slice(2)
const first = seeded().seed

for (const [name, { variant, found }] of Object.entries(EXHIBITS)) {
  if (!name.includes(wanted)) continue
  const began = performance.now()
  let law: string | undefined
  let seed = first
  while (law === undefined && performance.now() - began < MOST_MS) {
    await runWorld(seed, variant).catch((error: Error) => {
      if (!found.test(error.message)) throw error
      law = error.message
    })
    seed++
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  console.log(
    `${name}: ${law === undefined ? 'not found' : `world ${seed - first}, ${seconds} s: ${law.slice(0, 120)}`}`,
  )
  if (law === undefined) process.exitCode = 1
}
