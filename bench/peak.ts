// Loaded into a command by `--import`: writes the most memory of the process (VmHWM, bytes) and its CPU time
// (seconds) into the file named by COFFER_BENCH_PEAK, at the end. The maximum of getrusage would not do: a new
// process takes over that of the process that has started it.
import { readFileSync, writeFileSync } from 'node:fs'

export type Peak = { readonly bytes: number; readonly cpuSeconds: number }

const file = process.env.COFFER_BENCH_PEAK
process.on('exit', () => {
  if (file === undefined) return
  const kib = /^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  const { user, system } = process.cpuUsage()
  const peak: Peak = { bytes: Number(kib) * 1024, cpuSeconds: (user + system) / 1e6 }
  writeFileSync(file, JSON.stringify(peak))
})
