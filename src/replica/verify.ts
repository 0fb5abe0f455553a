// Compares a replica with its ledger: the digest of the replica against the digest of a second replica, built
// from nothing up to the same revision. The node must be stopped. An embedded ledger is read up to the
// replica's own cursor, so that nothing changes. A shared ledger may have moved on: the replica catches up
// first, as at a start.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import { type Clock, Deadline, randomHex } from '../clock.ts'
import { DRIVERS, type LedgerSettings, type LedgerTls, openLedger } from '../ledger/drivers.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { DamagedLedger } from '../ledger/lmdb-records.ts'
import { DamagedReplica } from '../state/stored.ts'
import { BoundedLedger } from './bounded-ledger.ts'
import { checkFile } from './check.ts'
import { CleanStop } from './clean-stop.ts'
import { LmdbStore } from './lmdb-store.ts'
import { Replica } from './replica.ts'

/**
 * `absent`: there is no replica. `damaged`: a file cannot be read through, or the replica follows another
 * ledger. `ahead`: the replica has applied revisions after the ledger's head. `compared`: the digests of the
 * replica and of its rebuild at `revision`.
 */
export type ReplicaCheck =
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly what: 'ledger' | 'replica'; readonly reason: string }
  | { readonly kind: 'ahead'; readonly revision: number; readonly head: number }
  | {
      readonly kind: 'compared'
      readonly revision: number
      readonly digest: string
      readonly rebuilt: string
    }

type ReplicaCheckOptions = {
  /** The data directory of the stopped node. */
  readonly data: string
  readonly ledger: Ledger
  /** Whether other nodes may commit meanwhile. */
  readonly shared: boolean
  readonly clock: Clock
  /** Called when a shared ledger cannot be reached; the check waits for the ledger. */
  readonly lost: (reason: string) => void
}

type NodeCheckOptions = Omit<ReplicaCheckOptions, 'ledger' | 'shared'> & {
  readonly ledger: LedgerSettings
  /** The content of `ledger.tls`. */
  readonly tls: LedgerTls | undefined
}

const TEMPORARY = 'verify-'

/**
 * As `verifyReplica`, with the ledger of the node's configuration. Throws NotChecked, CorruptEntry,
 * LedgerUnavailable.
 */
export async function verifyNode({
  ledger: settings,
  tls,
  ...options
}: NodeCheckOptions): Promise<ReplicaCheck> {
  CleanStop.take(options.data) // both files are opened for writing
  let ledger: Ledger
  try {
    ledger = await openLedger({ settings, tls, data: options.data, check: checkLedger })
  } catch (error) {
    if (!(error instanceof DamagedLedger)) throw error
    return { kind: 'damaged', what: 'ledger', reason: error.message }
  }
  try {
    return await verifyReplica({ ...options, ledger, shared: DRIVERS[settings.kind].shared })
  } finally {
    await ledger.close()
  }
}

/** Throws DamagedLedger, NotChecked. */
async function checkLedger(directory: string): Promise<void> {
  const checked = await checkFile('ledger', directory)
  if (!checked.whole) throw new DamagedLedger(checked.reason)
}

/** Throws NotChecked, CorruptEntry, OtherFormat, LedgerUnavailable. */
export async function verifyReplica(options: ReplicaCheckOptions): Promise<ReplicaCheck> {
  const { data, ledger, shared } = options
  const path = join(data, 'replica')
  const checked = await checkFile('replica', path)
  if (!checked.whole) return { kind: 'damaged', what: 'replica', reason: checked.reason }
  if (!existsSync(join(path, 'data.mdb'))) return { kind: 'absent' }
  try {
    const cursor = await cursorOf(path)
    const head = await ledger.head()
    if (head < cursor) return { kind: 'ahead', revision: cursor, head }
    return await compare(new BoundedLedger(ledger, shared ? head : cursor), options)
  } catch (error) {
    if (!(error instanceof DamagedReplica)) throw error
    return { kind: 'damaged', what: 'replica', reason: error.message }
  }
}

/**
 * Both replicas follow at the same time: when a snapshot moves the end of the ledger, both go on to the new
 * end.
 */
async function compare(ledger: BoundedLedger, options: ReplicaCheckOptions): Promise<ReplicaCheck> {
  const { data } = options
  // The system's temporary directory is often in memory, and a replica can be large.
  removeTemporary(data)
  const rebuiltAt = mkdtempSync(join(data, TEMPORARY))
  const opened: Replica[] = []
  try {
    for (const path of [join(data, 'replica'), join(rebuiltAt, 'replica')])
      opened.push(await follow(path, ledger, options))
    let end: number
    do {
      end = ledger.end
      await Promise.all(opened.map((replica) => replica.waitApplied(end, Deadline.never)))
    } while (ledger.end > end)
    const [digest, rebuilt] = opened.map((replica) => {
      assert(replica.applied === end, 'the ledger ends where both replicas are')
      return replica.digest().digest
    })
    return { kind: 'compared', revision: end, digest, rebuilt }
  } finally {
    for (const replica of opened) await replica.close()
    removeTemporary(data)
  }
}

/** Removes the rebuilt replica, also of an interrupted run. */
function removeTemporary(data: string): void {
  for (const name of readdirSync(data)) {
    if (name.startsWith(TEMPORARY)) rmSync(join(data, name), { recursive: true, force: true })
  }
}

async function cursorOf(path: string): Promise<number> {
  const store = new LmdbStore(path, true)
  try {
    return store.meta()?.cursor ?? 0
  } finally {
    await store.close()
  }
}

/**
 * Opens a replica that follows the ledger. Throws DamagedReplica, also where the replica follows another
 * ledger.
 */
async function follow(path: string, ledger: Ledger, { clock, lost }: ReplicaCheckOptions): Promise<Replica> {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const quiet = (): void => undefined
  const events = { lost, recovered: quiet, caughtUp: quiet, epoch: quiet, applied: quiet }
  const boot = randomHex(clock, 16)
  // A broken invariant also rejects the waits.
  const replica = await Replica.open({
    store: new LmdbStore(path),
    ledger,
    boot,
    clock,
    events,
    fatal: quiet,
  })
  try {
    replica.follow()
    await replica.recognized
    if (replica.mismatch !== undefined) throw new DamagedReplica(replica.mismatch)
    return replica
  } catch (error) {
    await replica.close()
    throw error
  }
}
