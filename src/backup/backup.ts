// Writing a backup: the live entries of a ledger at a revision, still sealed, with their digest. Verifying a
// backup, before any of its entries is used. restore.ts puts a verified backup into an empty ledger.
import type { Clock } from '../clock.ts'
import { type Keyring, UnknownRootKey, UnwrapError, wrappedBy } from '../crypto/keyring.ts'
import {
  Compacted,
  type Ledger,
  LedgerUnavailable,
  type Reader,
  type SnapshotEntry,
} from '../ledger/ledger.ts'
import { decodeEntry, type Genesis } from '../state/entries.ts'
import { ledgerKey, parseKey, snapshotRanges } from '../state/ledger-keys.ts'
import type { State } from '../state/state.ts'
import { CorruptEntry, LEDGER_FORMAT, OtherFormat } from '../state/writer.ts'
import { EntryDigest } from './entry-digest.ts'
import {
  type AuthenticEnd,
  type BackupEnd,
  type BackupEntry,
  BackupError,
  type BackupHead,
  BackupWriter,
  DamagedBackup,
  readBackup,
  type SealedHead,
  type Sink,
} from './file.ts'

type BackupOptions = {
  readonly ledger: Ledger
  /** The keyring of the ledger's nodes: the backup can be read with its active root key. */
  readonly keyring: Keyring
  readonly sink: Sink
  readonly clock: Clock
  /** Called with the number of entries written so far. */
  readonly progress?: (entries: number) => void
}

type WrittenBackup = BackupHead &
  BackupEnd & {
    /** Length of the file. */
    readonly bytes: number
    /** Number of foreign keys in the ledger: left out of the backup. */
    readonly foreign: number
  }

/** Throws BackupError, CorruptEntry, OtherFormat, LedgerUnavailable. */
export async function writeBackup(options: BackupOptions): Promise<WrittenBackup> {
  try {
    return await write(options)
  } catch (error) {
    if (!(error instanceof Compacted)) throw error
    throw new BackupError(
      'the backup took longer than the ledger keeps its history',
      'repeat the backup while less is written',
    )
  }
}

async function write(options: BackupOptions): Promise<WrittenBackup> {
  const { ledger, keyring, sink, clock, progress } = options
  const genesis = await readGenesis(ledger)
  checkKeyring(keyring, genesis)
  const { identity, format } = genesis
  const source: Source = { identity, revision: 0, newest: undefined }
  ledger.checkConnections((reader) => checkSource(reader, source))
  const { revision, entries } = await ledger.snapshot(snapshotRanges([]))
  source.revision = revision
  const head = { revision, identity, format, madeAt: new Date(clock.now()).toISOString() }
  const writer = new BackupWriter(sink)
  await writer.head(head, keyring, clock)
  const digest = new EntryDigest()
  for await (const entry of entries) {
    const { key, value } = entry
    if (isNodeEntry(key) || !digest.add(key, value)) continue
    if (isKept(key) && entry.created > (source.newest?.created ?? 0)) source.newest = entry
    await writer.entry({ key, value })
    progress?.(digest.entries)
  }
  const end = { entries: digest.entries, mappings: digest.mappings, digest: digest.digest() }
  await writer.end(end)
  return { ...head, ...end, foreign: digest.foreign, bytes: writer.bytes }
}

/** Node entries describe the nodes of a ledger, and the nodes of a restored ledger write their own. */
function isNodeEntry(key: string): boolean {
  return parseKey(key)?.kind === 'node'
}

/** The ledger of a backup, as known so far. */
type Source = {
  readonly identity: string
  /** The revision of the backup. */
  revision: number
  /** The entry created last, of those read and never removed. */
  newest: SnapshotEntry | undefined
}

/** Receipts are swept; all other entries of a backup stay under their keys. */
function isKept(key: string): boolean {
  return parseKey(key)?.kind !== 'receipt'
}

/**
 * Throws LedgerUnavailable where a connection does not lead to the ledger of the first connection. An older
 * copy of the same ledger ends before the revision, or was written on and has not created the newest entry.
 */
async function checkSource(reader: Reader, { identity, revision, newest }: Source): Promise<void> {
  const [found, head, same] = await Promise.all([
    readIdentity(reader),
    reader.head(),
    newest && reader.read(newest.key),
  ])
  if (found === identity && head >= revision && same?.created === newest?.created) return
  throw new LedgerUnavailable('ledger-changed', 'an endpoint leads to another ledger than the others')
}

/** The identity in a genesis; undefined where the bytes are no genesis of this format. */
export function identityOf(value: Uint8Array): string | undefined {
  try {
    const genesis = decodeEntry(ledgerKey.genesis, value)
    return genesis?.kind === 'genesis' ? genesis.identity : undefined
  } catch (error) {
    if (error instanceof CorruptEntry || error instanceof OtherFormat) return undefined
    throw error
  }
}

/** The identity of a ledger; undefined without a genesis of this format. Throws LedgerUnavailable. */
export async function readIdentity(reader: Reader): Promise<string | undefined> {
  const { value } = await reader.read(ledgerKey.genesis)
  return value === null ? undefined : identityOf(value)
}

async function readGenesis(ledger: Ledger): Promise<Genesis> {
  const { value } = await ledger.read(ledgerKey.genesis)
  const genesis = value ? decodeEntry(ledgerKey.genesis, value) : undefined
  if (genesis?.kind !== 'genesis') {
    throw new BackupError(
      'the ledger has no genesis, so it is empty, or a restore into it was not finished',
      'start a node on the ledger, or run the restore again',
    )
  }
  return genesis
}

function checkKeyring(keyring: Keyring, genesis: Genesis): void {
  try {
    openGenesis(keyring, genesis)
  } catch (error) {
    if (!(error instanceof UnknownRootKey || error instanceof UnwrapError)) throw error
    throw new BackupError(
      `the keyring is not the keyring of this ledger (${error.message})`,
      'put the right keyring.json in place',
    )
  }
}

/** Throws UnknownRootKey, UnwrapError where a keyring is not the keyring of the ledger of a genesis. */
export function openGenesis(keyring: Keyring, { receiptKey }: Genesis): void {
  keyring.unwrap(receiptKey, ['receipts'])
}

/** The facts of a backup that was read whole, and is as it was written by a holder of the keyring. */
export type VerifiedBackup = SealedHead &
  AuthenticEnd & {
    readonly genesis: Genesis
    /** Number of wrapped epoch keys and data keys, by the id of the root key that wraps them. */
    readonly rootKeys: ReadonlyMap<string, number>
  }

type VerifyOptions = {
  readonly keyring: Keyring
  /** Called with the number of entries read so far. */
  readonly progress?: (entries: number) => void
}

/** Throws DamagedBackup, BackupError, OtherFormat, UnknownRootKey. */
export async function verifyBackup(
  source: AsyncIterable<Uint8Array>,
  { keyring, progress }: VerifyOptions,
): Promise<VerifiedBackup> {
  const digest = new EntryDigest()
  let head: SealedHead | undefined
  for await (const part of readBackup(source, keyring)) {
    switch (part.kind) {
      case 'head':
        if (part.head.format !== LEDGER_FORMAT) throw new OtherFormat('the backup', part.head.format)
        head = part.head
        break
      case 'entry':
        addEntry(digest, part.entry)
        progress?.(digest.entries)
        break
      case 'end':
        return verifyEnd(head, part.end, digest)
    }
  }
  throw new DamagedBackup('the backup has no end') // readBackup yields an end or throws
}

function addEntry(digest: EntryDigest, { key, value }: BackupEntry): void {
  try {
    if (isNodeEntry(key) || !digest.add(key, value))
      throw new DamagedBackup(`the backup has an entry that no backup holds: ${JSON.stringify(key)}`)
  } catch (error) {
    if (!(error instanceof CorruptEntry || error instanceof OtherFormat)) throw error
    throw new DamagedBackup(`the backup is damaged: ${error.message}`)
  }
}

function verifyEnd(head: SealedHead | undefined, end: AuthenticEnd, digest: EntryDigest): VerifiedBackup {
  const { genesis } = digest.state
  if (!head || genesis?.identity !== head.identity) throw new DamagedBackup('the backup has no genesis')
  if (digest.mappings !== end.mappings || digest.digest() !== end.digest)
    throw new DamagedBackup('the backup is damaged: its entries do not match its digest')
  return { ...head, ...end, genesis, rootKeys: rootKeysOf(digest.state) }
}

function rootKeysOf({ owners, dataKeys }: State): ReadonlyMap<string, number> {
  const counts = new Map(dataKeys)
  for (const { keys } of owners.values()) {
    for (const { wrapped } of keys.values()) {
      const id = wrappedBy(wrapped)
      counts.set(id, (counts.get(id) ?? 0) + 1)
    }
  }
  return counts
}
