// Writing a backup: the live entries of a ledger at a revision, still sealed, with their digest. Verifying a
// backup, before any of its entries is used. restore.ts puts a verified backup into an empty ledger.
import type { Clock } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { Compacted, type Ledger } from '../ledger/ledger.ts'
import { decodeEntry, type Genesis, LEDGER_FORMAT } from '../state/entries.ts'
import { ledgerKey, parseKey, snapshotRanges } from '../state/ledger-keys.ts'
import { CorruptEntry } from '../state/writer.ts'
import { EntryDigest } from './entry-digest.ts'
import {
  type BackupEnd,
  type BackupHead,
  BackupWriter,
  DamagedBackup,
  readBackup,
  type Sink,
} from './file.ts'

/** A ledger cannot be backed up, or a backup cannot be restored; the message says why and what to do. */
export class BackupError extends OperatorError {
  override readonly name = 'BackupError'
}

type BackupOptions = {
  readonly ledger: Ledger
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

/** Throws BackupError, CorruptEntry, LedgerUnavailable. */
export async function writeBackup(options: BackupOptions): Promise<WrittenBackup> {
  try {
    return await write(options)
  } catch (error) {
    if (!(error instanceof Compacted)) throw error
    throw new BackupError('the backup took longer than the ledger keeps its history', {
      hint: 'repeat the backup while less is written',
    })
  }
}

async function write({ ledger, sink, clock, progress }: BackupOptions): Promise<WrittenBackup> {
  const { identity, format } = await readGenesis(ledger)
  const { revision, entries } = await ledger.snapshot(snapshotRanges([]))
  const head = { revision, identity, format, madeAt: new Date(clock.now()).toISOString() }
  const writer = new BackupWriter(sink)
  await writer.head(head)
  const digest = new EntryDigest()
  for await (const { key, value } of entries) {
    if (isNodeEntry(key) || !digest.add(key, value)) continue
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

async function readGenesis(ledger: Ledger): Promise<Genesis> {
  const { value } = await ledger.read(ledgerKey.genesis)
  const genesis = value ? decodeEntry(ledgerKey.genesis, value) : undefined
  if (genesis?.kind !== 'genesis') {
    throw new BackupError(
      'the ledger has no genesis, so it is empty, or a restore into it was not finished',
      {
        hint: 'start a node on the ledger, or run the restore again',
      },
    )
  }
  if (genesis.format > LEDGER_FORMAT) throw newerFormat('ledger', genesis.format)
  return genesis
}

function newerFormat(what: string, format: number): BackupError {
  return new BackupError(`the ${what} has format ${format}, this version knows ${LEDGER_FORMAT}`, {
    hint: 'use a newer version',
  })
}

/** The facts of a backup whose entries were all read and match its checksums and its digest. */
export type VerifiedBackup = BackupHead &
  BackupEnd & {
    readonly genesis: Genesis
    /** Length of the file. */
    readonly bytes: number
  }

/** `progress` is called with the number of entries read so far. Throws DamagedBackup, BackupError. */
export async function verifyBackup(
  source: AsyncIterable<Uint8Array>,
  progress?: (entries: number) => void,
): Promise<VerifiedBackup> {
  const digest = new EntryDigest()
  let head: BackupHead | undefined
  for await (const part of readBackup(source)) {
    switch (part.kind) {
      case 'head':
        if (part.format > LEDGER_FORMAT) throw newerFormat('ledger of the backup', part.format)
        head = part
        break
      case 'entry':
        addEntry(digest, part.key, part.value)
        progress?.(digest.entries)
        break
      case 'end':
        return verifyEnd(head, part, digest)
    }
  }
  throw new DamagedBackup('the backup has no end') // readBackup yields an end or throws
}

function addEntry(digest: EntryDigest, key: string, value: Uint8Array): void {
  try {
    if (isNodeEntry(key) || !digest.add(key, value))
      throw new DamagedBackup(`the backup has an entry that no backup holds: ${JSON.stringify(key)}`)
  } catch (error) {
    if (!(error instanceof CorruptEntry)) throw error
    throw new DamagedBackup(`the backup is damaged: ${error.message}`)
  }
}

function verifyEnd(
  head: BackupHead | undefined,
  end: BackupEnd & { readonly bytes: number },
  digest: EntryDigest,
): VerifiedBackup {
  const { genesis } = digest.state
  if (!head || genesis?.identity !== head.identity) throw new DamagedBackup('the backup has no genesis')
  if (digest.mappings !== end.mappings || digest.digest() !== end.digest)
    throw new DamagedBackup('the backup is damaged: its entries do not match its digest')
  const { revision, identity, format, madeAt } = head
  const { entries, mappings, bytes } = end
  return { revision, identity, format, madeAt, entries, mappings, digest: end.digest, bytes, genesis }
}
