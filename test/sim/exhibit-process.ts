// A process of the museum: plants one bug, and looks for it in one world after the other. Arguments: the exhibit, the first
// seed, milliseconds of CPU time. Tells the parent what was found.

import { PLANTED, type Planted } from './planted.ts'
import { plant } from './planting.ts'

const [name, seed, ms] = process.argv.slice(2)
const planted: Planted | undefined = PLANTED[name]
const replaced = plant(planted?.changes ?? [])

const { EXHIBITS, WAYS } = await import('./exhibits.ts')
const { runWorld } = await import('./whole-world.ts')
const { Violation } = await import('./judge.ts')
const exhibit = EXHIBITS[name]
const variant = planted?.world ? WAYS[planted.world] : exhibit?.variant
const found = planted?.found ?? exhibit?.found
if (!found) throw new Error(`no such exhibit: ${name}`)
if (replaced() !== (planted?.changes.length ?? 0))
  throw new Error('a change was not made: its module is not loaded')

const spent = (): number => process.cpuUsage().user / 1000
let law: string | undefined
let world = Number(seed)
Error.stackTraceLimit = 0
for (; law === undefined && spent() < Number(ms); world++) {
  await runWorld(world, variant).catch((error: Error) => {
    // Without the bug no world has a violation: each one is a find, whichever law the world shows.
    if (!found.test(error.message) && !(error.cause instanceof Violation)) throw error
    law = error.message
  })
}
process.send?.({ law, seed: world - 1, worlds: world - Number(seed) })
process.disconnect?.()
