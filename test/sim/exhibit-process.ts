// A process of the museum: plants one bug, and looks for it in one world after the other. Arguments: the exhibit, the first
// seed, milliseconds. Tells the parent what was found.

import { registerHooks } from 'node:module'
import { PLANTED, type Planted } from './planted.ts'

const [name, seed, ms] = process.argv.slice(2)
const planted: Planted | undefined = PLANTED[name]

/** How often each text was replaced. */
const done = new Map<string, number>()

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context)
    const changes = planted?.changes.filter(({ file }) => url.endsWith(`/src/${file}`)) ?? []
    if (changes.length === 0) return loaded
    let source = Buffer.from(loaded.source as Uint8Array).toString('utf8')
    for (const { file, from, to } of changes) {
      if (source.split(from).length !== 2) throw new Error(`${file} has not once: ${from}`)
      source = source.replace(from, () => to)
      done.set(from, (done.get(from) ?? 0) + 1)
    }
    return { ...loaded, source }
  },
})

const { EXHIBITS } = await import('./exhibits.ts')
const { runWorld } = await import('./whole-world.ts')
const { Violation } = await import('./judge.ts')
const exhibit = EXHIBITS[name]
const found = planted?.found ?? exhibit?.found
if (!found) throw new Error(`no such exhibit: ${name}`)
if (done.size !== (planted?.changes.length ?? 0))
  throw new Error('a change was not made: its module is not loaded')

const began = performance.now()
let law: string | undefined
let world = Number(seed)
Error.stackTraceLimit = 0
for (; law === undefined && performance.now() - began < Number(ms); world++) {
  await runWorld(world, exhibit?.variant).catch((error: Error) => {
    // Without the bug no world has a violation: each one is a find, whichever law the world shows.
    if (!found.test(error.message) && !(error.cause instanceof Violation)) throw error
    law = error.message
  })
}
process.send?.({ law, seed: world - 1, worlds: world - Number(seed) })
process.disconnect?.()
