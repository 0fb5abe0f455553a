// Restoring a backup into an empty ledger. The genesis is put last, with a new identity. An interrupted
// restore leaves a ledger without genesis, refused by every node, and repeating the restore completes the
// ledger: every entry is put under a guard on the absence of its key, and an equal entry found under the key
// counts as put.
import { assert } from '../assert.ts'
import { type Clock, randomHex } from '../clock.ts'
import type { Keyring } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
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
import { ledgerKey, parseKey, snapshotRanges } from '../state/ledger-keys.ts'
import { retry } from '../waiting.ts'
import type { VerifiedBackup } from './backup.ts'
import { EntryDigest } from './entry-digest.ts'
import { type BackupEntry, BackupError, DamagedBackup, readBackup } from './file.ts'

/** A guard and a put per entry: an etcd with default flags takes 128 operations. */
const ENTRIES_A_COMMIT = 64
const COMMITS_IN_FLIGHT = 8
/** How long a step is retried before the restore fails. */
const RETRY_FOR_MS = 30_000
const RETRY_MS = 200

/** The ledger already holds entries. The restore has changed nothing. */
export class NotEmpty extends BackupError {
  constructor(key: string) {
    super(
      `the ledger is not empty (it holds ${key}), and a restore overwrites nothing`,
      'restore into an empty ledger',
    )
  }
}

type RestoreOptions = {
  readonly ledger: Ledger
  /** Opens the verified file: each call returns its bytes from the first byte on. */
  readonly open: () => AsyncIterable<Uint8Array>
  /** The keyring that verified the file. */
  readonly keyring: Keyring
  readonly backup: VerifiedBackup
  readonly clock: Clock
  /** Called with the number of entries put so far. */
  readonly progress?: (entries: number) => void
}

/** Returns the ledger's new identity. Throws BackupError, CorruptEntry, LedgerUnavailable. */
export async function restore(options: RestoreOptions): Promise<string> {
  const { ledger, backup, clock } = options
  await refuseUnlessEmpty(options)
  await putEntries(options)
  const digest = await retried(clock, () => digestOf(ledger))
  if (digest.entries !== backup.entries - 1 || digest.digest() !== backup.digest) {
    throw new BackupError(
      'the ledger does not match the backup: another program has written to it',
      'empty the ledger, and restore again',
    )
  }
  const identity = randomHex(clock, 16)
  assert(identity !== backup.genesis.identity, 'an identity of a ledger is never reused')
  const writer = { boot: randomHex(clock, 16), commit: 0 }
  const value = encodeEntry({ ...backup.genesis, identity }, writer)
  await putAbsent(options, [{ key: ledgerKey.genesis, value }])
  options.progress?.(backup.entries)
  return identity
}

/**
 * A ledger counts as empty without keys of Coffer, and also when all of its keys are keys of this backup and
 * the genesis is absent: an earlier restore of the backup was interrupted. Throws NotEmpty.
 */
async function refuseUnlessEmpty(options: RestoreOptions): Promise<void> {
  const { ledger, clock } = options
  const genesis = await retried(clock, () => ledger.read(ledgerKey.genesis))
  if (genesis.value !== null) throw new NotEmpty(ledgerKey.genesis)
  const unknown = await retried(clock, () => keysOf(ledger))
  if (unknown.size === 0) return
  for await (const { key } of entriesOf(options)) unknown.delete(key)
  for (const key of unknown) throw new NotEmpty(key)
}

async function keysOf(ledger: Ledger): Promise<Set<string>> {
  const keys = new Set<string>()
  for await (const { key } of (await ledger.snapshot(snapshotRanges([]))).entries)
    if (parseKey(key)) keys.add(key)
  return keys
}

async function digestOf(ledger: Ledger): Promise<EntryDigest> {
  const digest = new EntryDigest()
  for await (const { key, value } of (await ledger.snapshot(snapshotRanges([]))).entries)
    digest.add(key, value)
  return digest
}

/**
 * The entries of the verified backup, read once more: the file may have been exchanged since. Ends only after
 * the HMAC has matched again. Throws BackupError where the bytes are not the verified bytes.
 */
async function* entriesOf({ open, keyring, backup }: RestoreOptions): AsyncGenerator<BackupEntry> {
  try {
    for await (const part of readBackup(open(), keyring)) {
      if (part.kind === 'entry') yield part.entry
      // Another backup has another key; under the key of this one, only its own bytes match the HMAC.
      else if (part.kind === 'head' && !Buffer.from(part.head.wrappedKey).equals(backup.wrappedKey))
        throw new DamagedBackup('the file is another backup')
    }
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error
    throw new BackupError(
      `the backup has changed since it was checked: ${error.message}`,
      'empty the ledger, and restore again from a copy that nobody changes',
    )
  }
}

/** Puts all entries but the genesis. */
async function putEntries(options: RestoreOptions): Promise<void> {
  const batches = batchesOf(entriesOf(options))
  let done = 0
  // The putters share one generator: a putter that fails ends the generator, and with it the other putters.
  const putters = Array.from({ length: COMMITS_IN_FLIGHT }, async () => {
    for await (const batch of batches) {
      await putAbsent(options, batch)
      done += batch.length
      options.progress?.(done)
    }
  })
  for (const result of await Promise.allSettled(putters)) {
    if (result.status === 'rejected') throw result.reason
  }
}

/** The entries but the genesis, in batches of at most a commit. */
async function* batchesOf(entries: AsyncIterable<BackupEntry>): AsyncGenerator<readonly BackupEntry[]> {
  let batch: BackupEntry[] = []
  let bytes = 0
  for await (const entry of entries) {
    if (entry.key === ledgerKey.genesis) continue
    const size = commitBytes(commitOf([entry]))
    if (size > COMMIT_BYTES)
      throw new BackupError(`the entry ${entry.key} is larger than a commit may be`, 'use a newer version')
    if (batch.length === ENTRIES_A_COMMIT || bytes + size > COMMIT_BYTES) {
      yield batch
      batch = []
      bytes = 0
    }
    batch.push(entry)
    bytes += size
  }
  if (batch.length > 0) yield batch
}

function commitOf(entries: readonly BackupEntry[]): Commit {
  return {
    if: entries.map(({ key }) => ({ key, revision: 0 })),
    put: entries.map(({ key, value }) => ({ key, value })),
  }
}

/** Puts the entries whose keys are absent. Throws NotEmpty where a key holds other bytes. */
async function putAbsent({ ledger, clock }: RestoreOptions, entries: readonly BackupEntry[]): Promise<void> {
  let left = entries
  while (left.length > 0) {
    const commit = commitOf(left)
    const result = await retried(clock, (): Promise<CommitResult> => ledger.commit(commit))
    if (result.ok) return
    const found = new Map(result.found.map(({ key, value }) => [key, value]))
    const absent: BackupEntry[] = []
    for (const entry of left) {
      const value = found.get(entry.key) ?? null
      if (value === null) absent.push(entry)
      else if (!Buffer.from(entry.value).equals(value)) throw new NotEmpty(entry.key)
    }
    assert(absent.length < left.length, 'a refused commit has found a guarded key')
    left = absent
  }
}

/**
 * Retries a step whose outcome is unknown, or whose ledger cannot be reached, for 30 s: every step is
 * idempotent. Throws BackupError after the 30 s, and whatever else `work` throws at once.
 */
async function retried<T>(clock: Clock, work: () => Promise<T>): Promise<T> {
  try {
    return await retry(work, {
      every: RETRY_MS,
      within: RETRY_FOR_MS,
      when: isTransient,
      now: () => clock.monotonic(),
    })
  } catch (error) {
    if (!isTransient(error)) throw error
    throw new BackupError(error.message, 'run the same restore again to continue')
  }
}

function isTransient(error: unknown): error is Error {
  if (error instanceof UnknownOutcome || error instanceof Compacted) return true
  return error instanceof LedgerUnavailable && error.reason !== 'closed'
}
