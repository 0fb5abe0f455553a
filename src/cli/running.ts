// Whether a node of a configuration file runs on this machine, and its process.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Config } from '../node/config.ts'
import { InUse, lockDirectory } from '../node/lock.ts'
import { Failure } from './failure.ts'

type Place = Pick<Config, 'file' | 'node' | 'data'>

/** `pid` is undefined where something else has the data directory, or a node that is just starting. */
export type Running = { readonly pid: number | undefined }

function pidFile({ file, node }: Place): string {
  return join(dirname(file), 'run', `${node}.pid`)
}

export function writePid(place: Place): void {
  mkdirSync(dirname(pidFile(place)), { recursive: true, mode: 0o700 })
  writeFileSync(pidFile(place), `${process.pid}\n`)
}

/** Only where it is this process's own: another node may have begun meanwhile. */
export function removePid(place: Place): void {
  if (readPid(place) === process.pid) rmSync(pidFile(place), { force: true })
}

function readPid(place: Place): number | undefined {
  if (!existsSync(pidFile(place))) return undefined
  const text = readFileSync(pidFile(place), 'utf8').trim()
  return /^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined
}

/**
 * undefined where no process has the data directory. The lock decides, not the pid: a node that was killed
 * leaves its pid behind, and the system gives it to another process.
 */
export function running(place: Place): Running | undefined {
  if (!existsSync(join(place.data, 'lock'))) return undefined
  try {
    lockDirectory(place.data).release()
    return undefined
  } catch (error) {
    if (!(error instanceof InUse)) throw error
  }
  const pid = readPid(place)
  return { pid: pid !== undefined && isAlive(pid) ? pid : undefined }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Has a running node re-read its owners and its keyring. Throws Failure where it cannot be told. */
export function hangUp(place: Place, { pid }: Running): void {
  if (pid === undefined) {
    throw new Failure(
      `${place.data} is in use, and ${pidFile(place)} does not say by which process: send it SIGHUP yourself`,
    )
  }
  try {
    process.kill(pid, 'SIGHUP')
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : 'failed'
    throw new Failure(`node ${place.node} (process ${pid}) cannot be told to re-read its files: ${why}`)
  }
}

/** Holds the data directory of a node that must be stopped. Throws Failure. */
export function holdStopped(place: Place): { release(): void } {
  try {
    return lockDirectory(place.data)
  } catch (error) {
    if (!(error instanceof InUse)) throw error
    const pid = readPid(place)
    const by = pid === undefined ? '' : ` by process ${pid}`
    throw new Failure(`${place.data} is in use${by}: stop node ${place.node} first`)
  }
}
