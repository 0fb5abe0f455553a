// Many worlds in several processes: process k of n runs seeds first + k, first + k + n, …

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Report } from './whole-world.ts'

export type Share = {
  readonly first: number
  /** The seeds are apart by so much. */
  readonly step: number
  /** Ends before this seed, and begins no world after so many milliseconds. */
  readonly end: number
  readonly ms: number
  /** Of a world, before all is mended; undefined: as many as a whole world has. */
  readonly calls?: number | undefined
}

/** What a process tells: a world that has kept all laws, or one that has not. */
export type Told =
  | { readonly kind: 'kept'; readonly report: Report }
  | { readonly kind: 'broken'; readonly seed: number; readonly stack: string }

/**
 * Most of a world is garbage: little of it is copied where a world fits into the young generation, and is seldom marked
 * where the old one may grow. Few functions are hot: to optimise the others costs more than it brings. Other processes
 * need the other cores.
 */
const NODE_FLAGS = [
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
  '--initial-old-space-size=400',
  '--invocation-count-for-turbofan=20000',
  '--single-threaded-gc',
]

type Wanted = Pick<Share, 'first' | 'ms' | 'calls'> & {
  readonly seeds: number
  readonly processes: number
  readonly report: (report: Report) => void
}

/** Runs worlds until there are enough, or the time is over. Throws an error that names the seed of a broken world. */
export async function runWorlds({ first, seeds, ms, calls, processes, report }: Wanted): Promise<void> {
  const children: ChildProcess[] = []
  const share = async (number: number): Promise<void> => {
    const child = fork(new URL('./world-process.ts', import.meta.url), {
      serialization: 'advanced',
      execArgv: NODE_FLAGS,
    })
    children.push(child)
    let broken: Told | undefined
    child.on('message', (told: Told) => {
      if (told.kind === 'kept') report(told.report)
      else broken = told
    })
    const wanted: Share = { first: first + number, step: processes, end: first + seeds, ms, calls }
    child.send(wanted)
    const [code] = await once(child, 'exit')
    if (broken?.kind === 'broken') throw new Error(`seed ${broken.seed}: ${broken.stack}`)
    if (code !== 0) throw new Error(`a process of the simulation has ended with ${code}`)
  }
  try {
    await Promise.all(Array.from({ length: processes }, (_, number) => share(number)))
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
}
