// What must not outlive an interrupted run: processes and disks.
import type { Cluster } from '../cluster/cluster.ts'

const undo = new Set<() => void>()
let listening = false

/** Runs the work when a signal ends this process, unless `end` is called before. The work must be synchronous. */
export function ifInterrupted(work: () => void): { end(): void } {
  undo.add(work)
  if (!listening) {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
    process.once('exit', () => {
      for (const each of [...undo].reverse()) each()
    })
  }
  listening = true
  return { end: () => undo.delete(work) }
}

/** SIGKILL to all nodes; their members end with them. */
export function endProcesses({ nodes }: Cluster): void {
  for (const { process: node } of nodes) node?.child.kill('SIGKILL')
}
