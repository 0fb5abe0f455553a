// Restoring a backup into an empty ledger. Its genesis is put last and with an identity of its own: a restore that was
// interrupted leaves a ledger without genesis, which no node uses, and the same restore again finishes it, since every
// entry is put under the guard that it is absent, and the same bytes under it count as done.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import {
  COMMIT_BYTES,
  type Commit,
  type CommitResult,
  Compacted,
  commitBytes,
  type Ledger,
  LedgerUnavailable,
  UnknownOutcome,
} from '../ledger/ledger.ts'
import { encodeEntry } from '../state/entries.ts'
import { ledgerKey, parseKey } from '../state/ledger-keys.ts'
import { BackupError, type Verified } from './backup.ts'
import { Contents } from './entry-digest.ts'
import { type BackupEntry, readBackup } from './file.ts'

/** An etcd counts operations: by itself it takes 128. */
const COMMIT_PUTS = 64
const IN_FLIGHT = 8
const PATIENCE_MS = 30_000
const RETRY_MS = 200

/** The ledger has entries already; none of them was touched. */
export class NotEmpty extends BackupError {
  constructor(key: string) {
    super(`the ledger is not empty (it holds ${key}), and nothing of it is overwritten`)
  }
}

export type Restoring = {
  readonly ledger: Ledger
  /** The backup's bytes from the first one on, at every call; of the file that was verified. */
  readonly open: () => AsyncIterable<Uint8Array>
  readonly backup: Verified
  readonly clock: Clock
  /** Called with the number of entries that are in the ledger. */
  readonly progress?: (entries: number) => void
}

/** Returns the ledger's new identity. Throws BackupError, DamagedBackup, CorruptEntry, LedgerUnavailable. */
export async function restore(options: Restoring): Promise<string> {
  const { ledger, backup, clock } = options
  await refuseUnlessEmpty(options)
  await putEntries(options)
  const contents = await patiently(clock, () => contentsOf(ledger))
  if (contents.entries !== backup.entries - 1 || contents.digest() !== backup.digest) {
    throw new BackupError(
      'the ledger does not hold what the backup holds: was something else written to it? Empty it, and restore again',
    )
  }
  const identity = Buffer.from(clock.random(16)).toString('hex')
  const writer = { boot: Buffer.from(clock.random(16)).toString('hex'), commit: 0 }
  const value = encodeEntry({ ...backup.genesis, identity }, writer)
  await putAbsent(options, [{ key: ledgerKey.genesis, value }])
  options.progress?.(backup.entries)
  return identity
}

/** Empty is a ledger with no key of ours, and one that has nothing but entries of this backup, without its genesis. */
async function refuseUnlessEmpty({ ledger, open, clock }: Restoring): Promise<void> {
  const genesis = await patiently(clock, () => ledger.read(ledgerKey.genesis))
  if (genesis.value !== null) throw new NotEmpty(ledgerKey.genesis)
  const there = await patiently(clock, () => keysOf(ledger))
  if (there.size === 0) return
  for await (const part of readBackup(open())) if (part.kind === 'entry') there.delete(part.key)
  for (const key of there) throw new NotEmpty(key)
}

async function keysOf(ledger: Ledger): Promise<Set<string>> {
  const keys = new Set<string>()
  for await (const { key } of (await ledger.snapshot()).entries) if (parseKey(key)) keys.add(key)
  return keys
}

async function contentsOf(ledger: Ledger): Promise<Contents> {
  const contents = new Contents()
  for await (const { key, value } of (await ledger.snapshot()).entries) contents.add(key, value)
  return contents
}

async function putEntries(options: Restoring): Promise<void> {
  const packs = packsOf(readBackup(options.open()))
  let done = 0
  // All take from one stream of packs: where one of them fails, it ends the stream for the others.
  const putters = Array.from({ length: IN_FLIGHT }, async () => {
    for await (const pack of packs) {
      await putAbsent(options, pack)
      done += pack.length
      options.progress?.(done)
    }
  })
  for (const result of await Promise.allSettled(putters)) {
    if (result.status === 'rejected') throw result.reason
  }
}

/** The entries but the genesis, as many together as a commit takes. */
async function* packsOf(parts: ReturnType<typeof readBackup>): AsyncGenerator<readonly BackupEntry[]> {
  let pack: BackupEntry[] = []
  let bytes = 0
  for await (const part of parts) {
    if (part.kind !== 'entry' || part.key === ledgerKey.genesis) continue
    const own = commitBytes(commitOf([part]))
    if (own > COMMIT_BYTES) throw new BackupError(`the entry ${part.key} is larger than a commit may be`)
    if (pack.length === COMMIT_PUTS || bytes + own > COMMIT_BYTES) {
      yield pack
      pack = []
      bytes = 0
    }
    pack.push(part)
    bytes += own
  }
  if (pack.length > 0) yield pack
}

function commitOf(entries: readonly BackupEntry[]): Commit {
  return {
    if: entries.map(({ key }) => ({ key, revision: 0 })),
    put: entries.map(({ key, value }) => ({ key, value })),
  }
}

/** Puts what is not there yet. Throws BackupError where something else stands under one of the keys. */
async function putAbsent({ ledger, clock }: Restoring, entries: readonly BackupEntry[]): Promise<void> {
  let left = entries
  while (left.length > 0) {
    const commit = commitOf(left)
    const result = await patiently(clock, (): Promise<CommitResult> => ledger.commit(commit))
    if (result.ok) return
    const found = new Map(result.found.map(({ key, value }) => [key, value]))
    const absent: BackupEntry[] = []
    for (const entry of left) {
      const value = found.get(entry.key) ?? null
      if (value === null) absent.push(entry)
      else if (!sameBytes(value, entry.value)) throw new NotEmpty(entry.key)
    }
    assert(absent.length < left.length, 'a refusal tells what stood in the way')
    left = absent
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/**
 * What may or may not have happened is sent again, and a ledger that cannot be reached is waited for: a while, since
 * the same bytes twice do no harm.
 */
async function patiently<T>(clock: Clock, work: () => Promise<T>): Promise<T> {
  for (let deadline: number | undefined; ; ) {
    try {
      return await work()
    } catch (error) {
      if (!passes(error)) throw error
      deadline ??= clock.monotonic() + PATIENCE_MS
      if (clock.monotonic() > deadline) {
        throw new BackupError(`${error.message}; the same restore again goes on where this one has ended`)
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

function passes(error: unknown): error is Error {
  if (error instanceof UnknownOutcome || error instanceof Compacted) return true
  return error instanceof LedgerUnavailable && error.reason !== 'closed'
}
