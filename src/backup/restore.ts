// Restoring a backup into an empty ledger. The genesis is put last, with a new identity. An interrupted
// restore leaves a ledger without genesis, refused by every node, and repeating the restore completes the
// ledger: every entry is put under a guard on the absence of its key, and an equal entry found under the key
// counts as put.
import { assert } from '../assert.ts'
import { type Clock, Deadline, randomHex } from '../clock.ts'
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
  type Reader,
  UnknownOutcome,
} from '../ledger/ledger.ts'
import { encodeEntry } from '../state/entries.ts'
import { compareKeys, ledgerKey, parseKey, snapshotRanges } from '../state/ledger-keys.ts'
import { retry, settled } from '../waiting.ts'
import { identityOf, type VerifiedBackup } from './backup.ts'
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
  /** Called with the number of entries put so far, then with the number of entries read back. */
  readonly progress?: (entries: number, step: 'restoring' | 'comparing') => void
}

/** Returns the ledger's new identity. Throws BackupError, LedgerUnavailable. */
export async function restore(options: RestoreOptions): Promise<string> {
  const { backup, clock } = options
  const identity = randomHex(clock, 16)
  assert(identity !== backup.genesis.identity, 'an identity of a ledger is never reused')
  // Entries of an interrupted restore of the same backup may be there, and nothing else.
  const before = await compare(options, () => undefined)
  if (before.other !== undefined) throw new NotEmpty(before.other)
  await putEntries(options, identity)
  const after = await compare(options, (entries) => options.progress?.(entries, 'comparing'))
  if (after.other !== undefined || after.equal !== backup.entries - 1) {
    const what = after.other ?? 'entries are gone'
    throw new BackupError(
      `the ledger does not match the backup (${what}): another program has written to it`,
      'empty the ledger, and restore again',
    )
  }
  const writer = { boot: randomHex(clock, 16), commit: 0 }
  const value = encodeEntry({ ...backup.genesis, identity }, writer)
  await putAbsent(options, [{ key: ledgerKey.genesis, value }])
  options.progress?.(backup.entries, 'comparing')
  return identity
}

/**
 * `equal`: number of Coffer's entries in the ledger that are entries of the backup. `other`: the key of an
 * entry that is not.
 */
type Comparison = { readonly equal: number; readonly other: string | undefined }

/**
 * Compares the entries of the ledger with the entries of the backup. Both come in the same order, so memory
 * grows with neither. A genesis is never equal.
 */
function compare(options: RestoreOptions, progress: (entries: number) => void): Promise<Comparison> {
  const { ledger, clock } = options
  return retried(clock, async () => {
    const inBackup = entriesOf(options)
    try {
      const { entries } = await ledger.snapshot(snapshotRanges([]))
      let wanted: IteratorResult<BackupEntry> | undefined
      let equal = 0
      for await (const { key, value } of entries) {
        if (parseKey(key) === undefined) continue
        while (!wanted || (!wanted.done && compareKeys(wanted.value.key, key) < 0))
          wanted = await inBackup.next()
        const same = !wanted.done && wanted.value.key === key && Buffer.from(value).equals(wanted.value.value)
        if (!same || key === ledgerKey.genesis) return { equal, other: key }
        progress(++equal)
      }
      return { equal, other: undefined }
    } finally {
      await inBackup.return(undefined)
    }
  })
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

/**
 * Puts all entries but the genesis. The first batch is put alone: after that, every connection must lead to a
 * ledger with its entries, since one wrong endpoint among the right ones would get entries of its own.
 */
async function putEntries(options: RestoreOptions, identity: string): Promise<void> {
  const { ledger } = options
  const batches = batchesOf(entriesOf(options))
  ledger.checkConnections((reader) => checkTarget(reader, identity))
  const first = await batches.next()
  if (first.done) return
  const witness = await putAbsent(options, first.value)
  let done = first.value.length
  ledger.checkConnections((reader) => checkTarget(reader, identity, witness))
  // The putters share one generator: a putter that fails ends the generator, and with it the other putters.
  const putters = Array.from({ length: COMMITS_IN_FLIGHT }, async () => {
    for await (const batch of batches) {
      await putAbsent(options, batch)
      done += batch.length
      options.progress?.(done, 'restoring')
    }
  })
  await settled(putters)
}

/** An entry of the backup in the ledger, at its revision. */
type Witness = { readonly key: string; readonly revision: number }

/** Throws LedgerUnavailable where a connection does not lead to the ledger that the restore fills. */
async function checkTarget(reader: Reader, identity: string, witness?: Witness): Promise<void> {
  const { value } = await reader.read(ledgerKey.genesis)
  const found = witness && (await reader.read(witness.key))
  if (found?.revision === witness?.revision && (value === null || identityOf(value) === identity)) return
  throw new LedgerUnavailable('ledger-changed', 'an endpoint leads to another ledger than the others')
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
async function putAbsent(
  { ledger, clock }: RestoreOptions,
  entries: readonly BackupEntry[],
): Promise<Witness> {
  let left = entries
  let witness: Witness | undefined
  while (left.length > 0) {
    const commit = commitOf(left)
    const result = await retried(clock, (): Promise<CommitResult> => ledger.commit(commit, Deadline.never))
    if (result.ok) return { key: left[0].key, revision: result.revision }
    const found = new Map(result.found.map((each) => [each.key, each]))
    const absent: BackupEntry[] = []
    for (const entry of left) {
      const { value = null, revision = 0 } = found.get(entry.key) ?? {}
      if (value === null) absent.push(entry)
      else if (!Buffer.from(entry.value).equals(value)) throw new NotEmpty(entry.key)
      else witness = { key: entry.key, revision }
    }
    assert(absent.length < left.length, 'a refused commit has found a guarded key')
    left = absent
  }
  assert(witness, 'an entry is put or found')
  return witness
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
    const elsewhere = error instanceof LedgerUnavailable && error.reason === 'ledger-changed'
    const again = 'run the same restore again to continue'
    throw new BackupError(error.message, elsewhere ? `correct the endpoints, and ${again}` : again)
  }
}

function isTransient(error: unknown): error is Error {
  if (error instanceof UnknownOutcome || error instanceof Compacted) return true
  return error instanceof LedgerUnavailable && error.reason !== 'closed'
}
