// Whether a replica is what its ledger says: its digest against that of another one, built from nothing up to
// the same revision. The node must be stopped. Neither the ledger nor what the replica holds is changed.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { CheckedLedger } from '../ledger/checked.ts'
import { type Found, type Ledger, LedgerUnavailable, type Revision } from '../ledger/ledger.ts'
import { LmdbLedger } from '../ledger/lmdb.ts'
import { decodeEntry } from '../state/entries.ts'
import { GENESIS } from '../state/keys.ts'
import { checkFile } from './check.ts'
import { Replica } from './replica.ts'
import { DamagedReplica, ReplicaStore } from './store.ts'

/**
 * `absent`: there is no replica. `damaged`: a file cannot be read through, or follows another ledger.
 * `ahead`: the replica has seen revisions that the ledger does not have. `compared`: the digests of both at
 * `revision`.
 */
export type Verified =
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly what: 'ledger' | 'replica'; readonly reason: string }
  | { readonly kind: 'ahead'; readonly revision: number; readonly head: number }
  | {
      readonly kind: 'compared'
      readonly revision: number
      readonly digest: string
      readonly rebuilt: string
    }

const TEMPORARY = 'verify-'

/**
 * `data` is the data directory of a stopped node with an embedded ledger. Throws CorruptEntry,
 * LedgerUnavailable.
 */
export async function verifyReplica(data: string, clock: Clock): Promise<Verified> {
  const path = join(data, 'replica')
  for (const what of ['ledger', 'replica'] as const) {
    const checked = await checkFile(what, join(data, what))
    if (!checked.whole) return { kind: 'damaged', what, reason: checked.reason }
  }
  if (!existsSync(join(path, 'data.mdb'))) return { kind: 'absent' }
  const revision = await cursorOf(path)
  const ledger = new CheckedLedger(new LmdbLedger(join(data, 'ledger')))
  try {
    const head = await ledger.head()
    if (head < revision) return { kind: 'ahead', revision, head }
    const identity = await identityOf(ledger)
    const upTo = new UpTo(ledger, revision)
    const digest = await digestOf({ path, ledger: upTo, revision, identity, clock })
    // Not in the system's temporary directory: that is often memory, and a replica can be large.
    removeTemporary(data)
    const rebuiltAt = mkdtempSync(join(data, TEMPORARY))
    const rebuilt = await digestOf({
      path: join(rebuiltAt, 'replica'),
      ledger: upTo,
      revision,
      identity,
      clock,
    })
    return { kind: 'compared', revision, digest, rebuilt }
  } catch (error) {
    if (!(error instanceof DamagedReplica)) throw error
    return { kind: 'damaged', what: 'replica', reason: error.message }
  } finally {
    removeTemporary(data)
    await ledger.close()
  }
}

/** Also what an interrupted run has left. */
function removeTemporary(data: string): void {
  for (const name of readdirSync(data)) {
    if (name.startsWith(TEMPORARY)) rmSync(join(data, name), { recursive: true, force: true })
  }
}

async function cursorOf(path: string): Promise<number> {
  const store = new ReplicaStore(path, true)
  try {
    return store.meta()?.cursor ?? 0
  } finally {
    await store.close()
  }
}

/** The genesis is the first entry of every ledger. */
async function identityOf(ledger: Ledger): Promise<string> {
  if ((await ledger.head()) > 0) {
    for await (const { puts } of ledger.follow(0)) {
      const value = puts.find(({ key }) => key === GENESIS)?.value
      const genesis = value ? decodeEntry(GENESIS, value) : undefined
      if (genesis?.kind === 'genesis') return genesis.identity
      break
    }
  }
  throw new DamagedReplica('the ledger does not begin with a genesis')
}

type Opening = {
  readonly path: string
  readonly ledger: Ledger
  readonly revision: number
  readonly identity: string
  readonly clock: Clock
}

async function digestOf({ path, ledger, revision, identity, clock }: Opening): Promise<string> {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const quiet = (): void => undefined
  const events = {
    lost: quiet,
    recovered: quiet,
    caughtUp: quiet,
    rebuilt: quiet,
    epoch: quiet,
    applied: quiet,
  }
  const boot = Buffer.from(clock.random(16)).toString('hex')
  // A broken invariant also rejects the wait below.
  const replica = await Replica.open({ path, ledger, identity, boot, clock, events, fatal: quiet })
  try {
    await replica.waitApplied(revision)
    return replica.digest().digest
  } finally {
    await replica.close()
  }
}

/** A ledger that ends at a revision, for reading. */
class UpTo implements Ledger {
  readonly kind: Ledger['kind']
  readonly #ledger: Ledger
  readonly #revision: number

  constructor(ledger: Ledger, revision: number) {
    this.kind = ledger.kind
    this.#ledger = ledger
    this.#revision = revision
  }

  async head(): Promise<number> {
    return this.#revision
  }

  read(key: string): Promise<Found> {
    return this.#ledger.read(key)
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    if (after < this.#revision) {
      for await (const revision of this.#ledger.follow(after, signal)) {
        yield revision
        if (revision.revision === this.#revision) break
      }
    }
    // The stream of a ledger does not end by itself.
    if (signal && !signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
  }

  commit(): Promise<never> {
    return Promise.reject(new LedgerUnavailable('closed', 'the ledger is only read here'))
  }

  snapshot(): Promise<never> {
    return this.commit()
  }

  async problems(): Promise<readonly string[]> {
    return []
  }

  async close(): Promise<void> {}
}
