// Whether a node of a configuration file runs on this machine, and its process.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { InUse, lockDirectory } from '../../node/lock.ts'

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

/** Where the process id of its etcd member stands. */
export function memberPidFile({ file, node }: Place): string {
  return join(dirname(file), 'run', `${node}.etcd.pid`)
}

export function writeMemberPid(place: Place, pid: number): void {
  mkdirSync(dirname(memberPidFile(place)), { recursive: true, mode: 0o700 })
  writeFileSync(memberPidFile(place), `${pid}\n`)
}

/** Not where that member runs: another node may have begun meanwhile. */
export function removeMemberPid(place: Place): void {
  if (runningMember(place) === undefined) rmSync(memberPidFile(place), { force: true })
}

function readPid(place: Place): number | undefined {
  return readNumber(pidFile(place))
}

function readNumber(file: string): number | undefined {
  if (!existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8').trim()
  return /^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined
}

/**
 * The process of its etcd member, undefined where none runs. Not the pid decides, which the system may have given to
 * another process meanwhile, but what that process runs on.
 */
export function runningMember(place: Place): number | undefined {
  const pid = readNumber(memberPidFile(place))
  if (pid === undefined || !isAlive(pid)) return undefined
  const command = readProc(pid, 'cmdline')
  return command?.includes(`--data-dir=${join(place.data, 'etcd')}\0`) ? pid : undefined
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
  return {
    pid: pid !== undefined && isAlive(pid) && hasOpen(pid, join(place.data, 'lock')) ? pid : undefined,
  }
}

/** Another command may have the lock, and the process that got the pid of a dead node has nothing to do with it. */
function hasOpen(pid: number, file: string): boolean {
  const path = realpathSync(file)
  try {
    const descriptors = `/proc/${pid}/fd`
    return readdirSync(descriptors).some((each) => linkOf(join(descriptors, each)) === path)
  } catch {
    return true // no /proc here, or a process of another user: it gets no signal anyway
  }
}

/** undefined where it has just been closed. */
function linkOf(descriptor: string): string | undefined {
  try {
    return readlinkSync(descriptor)
  } catch {
    return undefined
  }
}

/** A process that has ended and whose parent has not asked yet how (a zombie) is none. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return errorCode(error) === 'EPERM'
  }
  return !/\) Z /.test(readProc(pid, 'stat') ?? '')
}

/** undefined where the process is gone, or the system has no /proc. */
function readProc(pid: number, name: 'cmdline' | 'stat'): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch {
    return undefined
  }
}

/** Has a running node re-read its owners and its keyring. Throws OperatorError where it cannot be told. */
export function hangUp(place: Place, { pid }: Running): void {
  if (pid === undefined) {
    throw new OperatorError(
      `${place.data} is in use, and ${pidFile(place)} does not say by which process: send it SIGHUP yourself`,
    )
  }
  try {
    process.kill(pid, 'SIGHUP')
  } catch (error) {
    const why = errorCode(error) ?? 'failed'
    throw new OperatorError(`node ${place.node} (process ${pid}) cannot be told to re-read its files: ${why}`)
  }
}

/** Holds the data directory of a node that must be stopped. Throws OperatorError. */
export function holdStopped(place: Place): { release(): void } {
  try {
    return lockDirectory(place.data)
  } catch (error) {
    if (!(error instanceof InUse)) throw error
    const pid = readPid(place)
    const by = pid === undefined ? '' : ` by process ${pid}`
    throw new OperatorError(`${place.data} is in use${by}: stop node ${place.node} first`)
  }
}
