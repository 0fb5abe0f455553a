// npm run fuzz -- [--minutes M] [--seed S] [NAME…]: all targets in turn, a new seed each round; NAMEs are parts of the names
// of targets. Exit 1 with target, seed and shrunk input where a property was broken.
import { parseArgs } from 'node:util'
import { seeded } from '../sim/seed.ts'
import { CODECS } from './codecs.ts'
import { FILES } from './files.ts'
import { httpTargets } from './http.ts'
import { rawTargets } from './raw.ts'
import { startTlsVault, startVault } from './running.ts'
import { fuzz } from './target.ts'
import { TEXTS } from './texts.ts'

const { values, positionals } = parseArgs({
  options: { minutes: { type: 'string' }, seed: { type: 'string' } },
  allowPositionals: true,
})
const minutes = Number(values.minutes ?? 1)
const { seed } = seeded(values.seed === undefined ? undefined : Number(values.seed))
if ([minutes, seed].some(Number.isNaN)) throw new Error('--minutes and --seed take numbers')
await using vault = await startVault()
await using tlsVault = await startTlsVault()
const running = [...httpTargets(vault), ...rawTargets(vault, 'TCP'), ...rawTargets(tlsVault, 'TLS')]
const targets = [...CODECS, ...FILES, ...TEXTS, ...running].filter(
  ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
)
if (targets.length === 0) throw new Error('no target has such a name')

const began = performance.now()
const inputs = new Map<string, number>()
let round = 0
try {
  do {
    for (const target of targets) {
      await fuzz(target, seed + round)
      inputs.set(target.name, (inputs.get(target.name) ?? 0) + target.inputs)
    }
    round++
  } while (performance.now() - began < minutes * 60_000)
} catch (error) {
  console.error(error)
  console.error(`again: npm run fuzz -- --minutes 0 --seed ${seed + round}`)
  process.exitCode = 1
}
for (const [name, count] of inputs) console.log(`${String(count).padStart(10)}  ${name}`)
console.log(`${round} rounds from seed ${seed} in ${((performance.now() - began) / 1000).toFixed(1)} s`)
