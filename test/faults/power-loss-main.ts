// npm run power-loss -- [--rounds N] [--nodes 1|3] [--seed S] [--skip-sync]: loses power N times, and tells what held.
// With --skip-sync nothing is synced: exit 0 where the loss is found within the rounds, else 1. Exit 2: the run itself has failed.
import { parseArgs } from 'node:util'
import { Violation } from '../sim/judge.ts'
import { seeded } from '../sim/seed.ts'
import { losePower, noPowerLoss } from './power-loss.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '10' },
    nodes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    'skip-sync': { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const nodes = values.nodes === '3' ? 3 : 1
const skipSync = values['skip-sync']
const random = seeded(values.seed === undefined ? undefined : Number(values.seed))
if (!(rounds > 0) || Number.isNaN(random.seed)) throw new Error('--rounds and --seed take numbers')

const reason = noPowerLoss()
if (reason !== undefined) console.log(`skipped: this machine has no disk that loses power: ${reason}`)
else {
  const began = performance.now()
  const seconds = (): string => `${((performance.now() - began) / 1000).toFixed(0)} s`
  const again = `npm run power-loss -- --rounds ${rounds} --nodes ${nodes} --seed ${random.seed}`
  try {
    const { counts } = await losePower({ rounds, nodes, random, skipSync, report: console.log })
    for (const [name, count] of [...counts].sort()) console.log(`${String(count).padStart(8)}  ${name}`)
    console.log(
      `${rounds} losses of power, ${nodes} node(s), seed ${random.seed}, ${seconds()}: nothing is lost`,
    )
    if (skipSync) process.exitCode = 1
  } catch (error) {
    const isLoss = error instanceof Violation
    console.log(`after ${seconds()}: ${error instanceof Error ? error.message : error}`)
    if (!isLoss || !skipSync) {
      console.error(error, `\nagain: ${again}`)
      process.exitCode = isLoss ? 1 : 2
    }
  }
}
