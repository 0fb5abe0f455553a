// npm run museum [-- NAME]: each planted bug is looked for in one world after the other, from a random seed (COFFER_SEED),
// by a process of its own. Prints bug, seed, seconds, and the law. Exit 1 where a bug is not found within a minute.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { EXHIBITS } from './exhibits.ts'
import { PLANTED } from './planted.ts'
import { seeded } from './seed.ts'

const MOST_MS = 60_000
const [wanted = ''] = process.argv.slice(2)
const first = seeded().seed

type Told = { readonly law: string | undefined; readonly seed: number; readonly worlds: number }

for (const name of [...Object.keys(EXHIBITS), ...Object.keys(PLANTED)]) {
  if (!name.includes(wanted)) continue
  const began = performance.now()
  const process_ = fork(new URL('./exhibit-process.ts', import.meta.url), [name, `${first}`, `${MOST_MS}`])
  let told: Told | undefined
  process_.on('message', (message: Told) => {
    told = message
  })
  await once(process_, 'exit')
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  const result =
    told?.law === undefined
      ? `NOT FOUND in ${told?.worlds ?? 0} worlds`
      : `seed ${told.seed}, world ${told.worlds}, ${seconds} s: ${told.law.slice(0, 140)}`
  console.log(`${name}: ${result}`)
  if (told?.law === undefined) process.exitCode = 1
}
