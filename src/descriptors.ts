// The descriptors of the process: how many files and connections there may be at once, and a reserve. Work
// that must not fail opens files from the reserve when everything else is taken.
import { closeSync, openSync } from 'node:fs'
import { constants, devNull } from 'node:os'
import { assert } from './assert.ts'
import { OperatorError } from './errors.ts'

/** Descriptors kept in reserve. */
const RESERVE = 8
/** Descriptors of a node itself: at rest 31 to 40 are open; children, threads and the reserve need more. */
const OWN = 64
const LEAST_CONNECTIONS = 16

/**
 * How many connections a node may have, so that enough descriptors are left for the node itself; Infinity
 * where the system has no limit. Throws OperatorError where the limit is too low for a node.
 */
export function connectionsAtMost(limit: number = descriptorsAtMost()): number {
  const most = limit - OWN
  if (most >= LEAST_CONNECTIONS) return most
  const least = OWN + LEAST_CONNECTIONS
  throw new OperatorError(`a process may have ${limit} files open here, and a node needs ${least}`, {
    hint: 'raise the limit: ulimit -n, or LimitNOFILE of a systemd unit',
  })
}

/** The soft limit of the process; Infinity where there is none. */
function descriptorsAtMost(): number {
  // Otherwise the report looks up the names of all peers.
  Object.assign(process.report, { excludeNetwork: true })
  const { userLimits } = process.report.getReport() as {
    readonly userLimits?: { readonly open_files: { readonly soft: number | 'unlimited' } }
  }
  const soft = userLimits?.open_files.soft
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY
}

/** The reserve belongs to the process, as the limit does. */
const reserve: number[] = []
let isKept = false

/** Takes the reserve, and keeps the reserve until the process ends. */
export function keepReserve(): void {
  isKept = true
  fillReserve()
}

/**
 * Fills the reserve, as far as there are descriptors; without `keepReserve` does nothing. Call where a file
 * from `withReserve` is closed: its descriptor comes from the reserve.
 */
export function fillReserve(): void {
  if (!isKept) return
  try {
    while (reserve.length < RESERVE) reserve.push(openSync(devNull, 'r'))
  } catch {
    // Filled at the next use.
  }
}

/**
 * Runs `open`. Where that fails for want of a descriptor, gives the reserve back and runs `open` once more:
 * `open` has no effect when it fails. Synchronous, so that nobody else gets what is given back.
 */
export function withReserve<T>(open: () => T): T {
  fillReserve()
  try {
    return open()
  } catch (error) {
    if (!lacksDescriptors(error) || reserve.length === 0) throw error
  }
  for (const descriptor of reserve.splice(0)) closeSync(descriptor)
  try {
    return open()
  } finally {
    fillReserve()
    assert(reserve.length <= RESERVE, 'the reserve is filled, not grown')
  }
}

/** Node has the name of the error as its code, lmdb the number. */
function lacksDescriptors(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const { EMFILE, ENFILE } = constants.errno
  return code === 'EMFILE' || code === 'ENFILE' || code === EMFILE || code === ENFILE
}
