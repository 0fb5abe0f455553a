// The processes of a node on the machine: whether node and etcd member run, by lock and process id.
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'
import { replaceFile } from '../../files.ts'
import type { Config } from '../../node/config.ts'
import { InUse, lockDirectory } from '../../node/lock.ts'
import { memberPidFile } from '../../node/member-directory.ts'
import { giveBackAtExit } from './give-back.ts'

/** How long another command may hold the lock of a stopped node, to see whether the node runs. */
const LOOK_MS = 200

/** The part of a configuration with the paths of a node's process ids, lock and member. */
type NodeFiles = Pick<Config, 'file' | 'node' | 'data'>

/** `pid` is undefined while the node starts, and where another program holds the data directory. */
export type RunningNode = { readonly pid: number | undefined }

function pidFile({ file, node }: NodeFiles): string {
  return join(dirname(file), 'run', `${node}.pid`)
}

/** `report` gets a warning where the file cannot be written: the node runs without the file. */
export function writePid(files: NodeFiles, report: (warning: string) => void): void {
  writeNumber(pidFile(files), process.pid, report)
}

/** Keeps the file of another process: another node may have started meanwhile. */
export function removePid(files: NodeFiles): void {
  removeIfPossible(pidFile(files), () => readPid(files) === process.pid)
}

/** As `writePid`, for the node's etcd member. */
export function writeMemberPid(files: NodeFiles, pid: number, report: (warning: string) => void): void {
  writeNumber(memberPidFile(files), pid, report)
}

function writeNumber(file: string, pid: number, report: (warning: string) => void): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    replaceFile(file, `${pid}\n`, { mode: 0o644 })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    report(`commands on this machine cannot find process ${pid} by its file: ${why}`)
  }
}

/** Keeps the file while its member runs: another node may have started meanwhile. */
export function removeMemberPid(files: NodeFiles): void {
  removeIfPossible(memberPidFile(files), () => runningMember(files) === undefined)
}

/** The lock of the data directory decides whether a node runs: a file that stays does no harm. */
function removeIfPossible(file: string, isOver: () => boolean): void {
  try {
    if (isOver()) rmSync(file, { force: true })
  } catch {}
}

function readPid(files: NodeFiles): number | undefined {
  return readNumber(pidFile(files))
}

function readNumber(file: string): number | undefined {
  if (!existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8').trim()
  return /^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined
}

/**
 * The process of the node's etcd member; undefined: none runs. The process id alone proves nothing, since the
 * system may have given the id to another process: the command line must name the member's directory.
 */
export function runningMember(files: NodeFiles): number | undefined {
  const pid = readNumber(memberPidFile(files))
  if (pid === undefined || !isAlive(pid)) return undefined
  const command = readProc(pid, 'cmdline')
  return command?.includes(`--data-dir=${join(files.data, 'etcd')}\0`) ? pid : undefined
}

/**
 * undefined: no process holds the data directory. The lock decides, not the process id: a node that was
 * killed leaves its id in the file, and the system may give the id to another process.
 */
export function runningNode(files: NodeFiles): RunningNode | undefined {
  if (!existsSync(join(files.data, 'lock')) || isFree(files, 0)) return undefined
  const pid = holderOf(files)
  // A lock without a known process: another command looks for a moment, too, or a node starts.
  if (pid === undefined && isFree(files, LOOK_MS)) return undefined
  return { pid: pid ?? holderOf(files) }
}

function isFree({ data }: NodeFiles, waitMs: number): boolean {
  try {
    lockDirectory(data, waitMs).release()
    return true
  } catch (error) {
    if (error instanceof InUse) return false
    throw error
  }
}

function holderOf(files: NodeFiles): number | undefined {
  const pid = readPid(files)
  return pid !== undefined && isAlive(pid) && hasOpen(pid, join(files.data, 'lock')) ? pid : undefined
}

/**
 * Whether `coffer member run` or another command runs the node's member. Only a vault has its process id in a
 * file, and has it there before its member starts.
 */
export function memberRunsAlone(files: NodeFiles): boolean {
  const running = runningNode(files)
  return running !== undefined && running.pid === undefined && runningMember(files) !== undefined
}

/** Another command may hold the lock, while an unrelated process has got the id of a dead node. */
function hasOpen(pid: number, file: string): boolean {
  const path = realpathSync(file)
  try {
    const descriptors = `/proc/${pid}/fd`
    return readdirSync(descriptors).some((each) => linkOf(join(descriptors, each)) === path)
  } catch {
    return true // no /proc here, or a process of another user, out of reach of signals anyway
  }
}

/** undefined: the descriptor has just been closed. */
function linkOf(descriptor: string): string | undefined {
  try {
    return readlinkSync(descriptor)
  } catch {
    return undefined
  }
}

/** Zombies count as dead. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return errorCode(error) === 'EPERM'
  }
  return !/\) Z /.test(readProc(pid, 'stat') ?? '')
}

/** undefined: the process is gone, or the system has no /proc. */
function readProc(pid: number, name: 'cmdline' | 'stat'): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch {
    return undefined
  }
}

/**
 * Sends SIGHUP: the node re-reads its owners and its keyring. Throws OperatorError if the signal cannot be
 * sent.
 */
export function sendHangUp(files: NodeFiles, { pid }: RunningNode): void {
  if (pid === undefined) {
    throw new OperatorError(`${files.data} is in use, and ${pidFile(files)} does not name the process`, {
      hint: `send SIGHUP to the process of node ${files.node} yourself`,
    })
  }
  try {
    process.kill(pid, 'SIGHUP')
  } catch (error) {
    const why = errorCode(error) ?? 'failed'
    throw new OperatorError(
      `node ${files.node} (process ${pid}) cannot re-read its files, since SIGHUP failed: ${why}`,
    )
  }
}

/**
 * Locks the data directory of a stopped node, and makes a directory that is not there, as on a new disk.
 * Throws OperatorError if the node runs.
 */
export function lockStopped(files: NodeFiles): { release(): void } {
  giveBackAtExit(files)
  mkdirSync(files.data, { recursive: true, mode: 0o700 })
  try {
    return lockDirectory(files.data, LOOK_MS)
  } catch (error) {
    if (!(error instanceof InUse)) throw error
    if (memberRunsAlone(files))
      throw new OperatorError(`member ${files.node} runs without its vault, and has ${files.data} in use`, {
        hint: `end \`coffer member run\` of node ${files.node} first`,
      })
    const pid = readPid(files)
    const by = pid === undefined ? '' : ` by process ${pid}`
    throw new OperatorError(`${files.data} is in use${by}`, { hint: `stop node ${files.node} first` })
  }
}
