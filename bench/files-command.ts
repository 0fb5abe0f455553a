// Commands for files as users run them, each a process of its own: seconds from its start to its end, and the
// most memory that it took.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createReadStream, createWriteStream, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { WRITE_BYTES } from '../src/appending.ts'
import { track } from './child.ts'
import type { Peak } from './peak.ts'
import { apiKey } from './vault.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PEAK = new URL('./peak.ts', import.meta.url).href
const PIECE_BYTES = 1024 * 1024

export type Address = { readonly url: string; readonly owner: string }

/** The result of `--json`, and what the process took. */
export type CommandRun = {
  readonly seconds: number
  readonly peak: Peak
  /** The last line of stdout, or of stderr where stdout has the content. */
  readonly told: string
}

export type RunningCommand = { readonly child: ChildProcess; readonly done: Promise<CommandRun> }

type Starting = {
  readonly address: Address
  /** For the file with the peak; the name must be free. */
  readonly peakFile: string
  /** Default: none on stdin, and stdout is kept. */
  readonly isPiped?: boolean
}

let isBuilt = false

/** The program of the package, as users have it: sources begin 0.2 s later, since types are stripped first. */
function program(): string {
  if (!isBuilt) execFileSync(process.execPath, ['tools/build.ts'], { cwd: ROOT, stdio: 'inherit' })
  isBuilt = true
  return join(ROOT, 'dist/cli/main.js')
}

/** Starts `coffer ARGS`. `done` throws where the exit code is not 0. */
export function startCommand(args: readonly string[], starting: Starting): RunningCommand {
  return startScript([program(), ...args], starting)
}

/** Starts a script of Node, with the address of the vault in its environment, as a command has it. */
export function startScript(
  args: readonly string[],
  { address, peakFile, isPiped = false }: Starting,
): RunningCommand {
  const began = performance.now()
  const flags = ['--disable-warning=ExperimentalWarning', `--import=${PEAK}`]
  const child = spawn(process.execPath, [...flags, ...args], {
    stdio: [isPiped ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      COFFER_URL: address.url,
      COFFER_KEY: apiKey(address.owner),
      COFFER_BENCH_PEAK: peakFile,
    },
  })
  track(child)
  const said = { stdout: '', stderr: '' }
  for (const stream of isPiped ? (['stderr'] as const) : (['stdout', 'stderr'] as const))
    child[stream]?.setEncoding('utf8').on('data', (text: string) => {
      said[stream] = (said[stream] + text).slice(-4000)
    })
  const done = new Promise<CommandRun>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      const seconds = (performance.now() - began) / 1000
      if (code !== 0) {
        reject(new Error(`${args.join(' ')} ended with ${signal ?? code}:\n${said.stdout}${said.stderr}`))
        return
      }
      const peak: Peak = JSON.parse(readFileSync(peakFile, 'utf8'))
      rmSync(peakFile)
      const told = (said.stdout || said.stderr).trimEnd().split('\n').at(-1) ?? ''
      resolve({ seconds, peak, told })
    })
  })
  return { child, done }
}

/** Seconds to copy a file by streams, flushed at the end: what a command for files has to do at least. */
export async function copySeconds(from: string, to: string): Promise<number> {
  const began = performance.now()
  const reading = createReadStream(from, { highWaterMark: WRITE_BYTES })
  await pipeline(reading, createWriteStream(to, { highWaterMark: WRITE_BYTES, flush: true }))
  const seconds = (performance.now() - began) / 1000
  rmSync(to)
  return seconds
}

/** Compares two files byte by byte. Throws where they differ. */
export async function requireEqual(one: string, other: string): Promise<void> {
  const rest = createReadStream(other, { highWaterMark: PIECE_BYTES })[Symbol.asyncIterator]()
  let second: Buffer = Buffer.alloc(0)
  let at = 0
  const different = (): Error => new Error(`${other} differs from ${one} at byte ${at} or after`)
  for await (const part of createReadStream(one, { highWaterMark: PIECE_BYTES })) {
    let first: Buffer = part
    while (first.length > 0) {
      if (second.length === 0) {
        const { value, done } = await rest.next()
        if (done) throw different()
        second = value
      }
      const length = Math.min(first.length, second.length)
      if (first.compare(second, 0, length, 0, length) !== 0) throw different()
      at += length
      first = first.subarray(length)
      second = second.subarray(length)
    }
  }
  if (second.length > 0 || !(await rest.next()).done) throw different()
}
