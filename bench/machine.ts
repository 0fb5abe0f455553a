// The description of the machine behind the numbers.
import { closeSync, fdatasyncSync, openSync, readFileSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { quantile } from './load.ts'

const TMPFS = 0x01021994
const SYNCS = 200

export type Machine = {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly node: string
  readonly kernel: string
  /** Milliseconds: 4 KiB appended and flushed, in the directory of the vaults. */
  readonly fdatasyncMs: number
  readonly inMemory: boolean
  readonly loadAverage: number
  readonly time: string
}

export function describeMachine(dir: string): Machine {
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]
  return {
    cpu: cpus()[0]?.model.trim() || model || process.arch,
    cores: cpus().length,
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    node: process.version,
    kernel: release(),
    fdatasyncMs: medianSync(dir),
    inMemory: statfsSync(dir).type === TMPFS,
    loadAverage: Math.round(loadavg()[0] * 100) / 100,
    time: new Date().toISOString(),
  }
}

export function machineLines(machine: Machine): string[] {
  const { cpu, cores, memoryGiB, node, kernel, fdatasyncMs, inMemory, loadAverage, time } = machine
  const disk = inMemory ? 'the directory is in memory: nothing here is durable' : 'median of 4 KiB appended'
  return [
    `machine     ${cpu}, ${cores} cores, ${memoryGiB} GiB`,
    `software    Node ${node}, Linux ${kernel}`,
    `fdatasync   ${fdatasyncMs.toFixed(2)} ms (${disk})`,
    `load        ${loadAverage} before the start, ${time}`,
  ]
}

function medianSync(dir: string): number {
  const path = join(dir, 'fdatasync')
  const file = openSync(path, 'wx')
  const block = Buffer.alloc(4096, 1)
  const took = new Float64Array(SYNCS)
  try {
    for (let i = 0; i < SYNCS; i++) {
      const started = performance.now()
      writeSync(file, block)
      fdatasyncSync(file)
      took[i] = performance.now() - started
    }
  } finally {
    closeSync(file)
    rmSync(path)
  }
  return quantile(took.sort(), 0.5)
}
