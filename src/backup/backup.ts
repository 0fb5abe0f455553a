// A backup: the live entries of a ledger, as they are sealed, at one revision, with the digest of what they hold. And
// the check of one, before anything of it is believed. restore.ts puts it into an empty ledger.
import type { Clock } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { Compacted, type Ledger } from '../ledger/ledger.ts'
import { decodeEntry, type Genesis, LEDGER_FORMAT } from '../state/entries.ts'
import { ledgerKey, parseKey } from '../state/ledger-keys.ts'
import { CorruptEntry } from '../state/writer.ts'
import { Contents } from './entry-digest.ts'
import {
  type BackupEnd,
  type BackupHead,
  BackupWriter,
  DamagedBackup,
  readBackup,
  type Sink,
} from './file.ts'

/** No backup can be made of this ledger, or none be restored into it; the text says why and what to do. */
export class BackupError extends OperatorError {
  override readonly name = 'BackupError'
}

export type Written = BackupHead & BackupEnd & { readonly bytes: number; readonly foreign: number }

export type Writing = {
  readonly ledger: Ledger
  readonly sink: Sink
  readonly clock: Clock
  /** Called with the number of entries that are written. */
  readonly progress?: (entries: number) => void
}

/** Throws BackupError, CorruptEntry, LedgerUnavailable. */
export async function writeBackup(writing: Writing): Promise<Written> {
  try {
    return await write(writing)
  } catch (error) {
    if (!(error instanceof Compacted)) throw error
    throw new BackupError(
      'the backup took longer than the ledger keeps its history: make it again when less is written',
    )
  }
}

async function write({ ledger, sink, clock, progress }: Writing): Promise<Written> {
  const { identity, format } = await genesisOf(ledger)
  const { revision, entries } = await ledger.snapshot()
  const head = { revision, identity, format, madeAt: new Date(clock.now()).toISOString() }
  const writer = new BackupWriter(sink)
  await writer.head(head)
  const contents = new Contents()
  for await (const { key, value } of entries) {
    if (isOfNode(key) || !contents.add(key, value)) continue
    await writer.entry({ key, value })
    progress?.(contents.entries)
  }
  const { entries: count, mappings, foreign } = contents
  const end = { entries: count, mappings, digest: contents.digest() }
  await writer.end(end)
  return { ...head, ...end, foreign, bytes: writer.bytes }
}

/** What a node has read last is no part of what is stored, and the nodes of another ledger say it themselves. */
function isOfNode(key: string): boolean {
  return parseKey(key)?.kind === 'node'
}

async function genesisOf(ledger: Ledger): Promise<Genesis> {
  const { value } = await ledger.read(ledgerKey.genesis)
  const genesis = value ? decodeEntry(ledgerKey.genesis, value) : undefined
  if (genesis?.kind !== 'genesis') {
    throw new BackupError(
      'the ledger has no genesis: nothing was ever stored in it, or a restore into it was not finished',
    )
  }
  if (genesis.format > LEDGER_FORMAT) throw new BackupError(newer('ledger', genesis.format))
  return genesis
}

function newer(what: string, format: number): string {
  return `the ${what} has format ${format}, this version knows ${LEDGER_FORMAT}: use a newer one`
}

/** A backup that is whole: all of it has been read and compared with its checksums and its digest. */
export type Verified = BackupHead & BackupEnd & { readonly genesis: Genesis; readonly bytes: number }

/** Throws DamagedBackup, BackupError. */
export async function verifyBackup(
  source: AsyncIterable<Uint8Array>,
  progress?: (entries: number) => void,
): Promise<Verified> {
  const contents = new Contents()
  let head: BackupHead | undefined
  for await (const part of readBackup(source)) {
    if (part.kind === 'head') {
      if (part.format > LEDGER_FORMAT) throw new BackupError(newer('ledger of the backup', part.format))
      head = part
    } else if (part.kind === 'entry') {
      addTo(contents, part.key, part.value)
      progress?.(contents.entries)
    } else {
      const { genesis } = contents.state
      if (!head || genesis?.identity !== head.identity) throw new DamagedBackup('the backup has no genesis')
      const { revision, identity, format, madeAt } = head
      const { entries, mappings, digest, bytes } = part
      if (contents.mappings !== mappings || contents.digest() !== digest) {
        throw new DamagedBackup('the backup is damaged: its entries do not have the digest that it names')
      }
      return { revision, identity, format, madeAt, entries, mappings, digest, bytes, genesis }
    }
  }
  throw new DamagedBackup('the backup has no end') // readBackup ends with it, or throws
}

function addTo(contents: Contents, key: string, value: Uint8Array): void {
  try {
    if (isOfNode(key) || !contents.add(key, value))
      throw new DamagedBackup(`the backup has an entry that belongs in none: ${JSON.stringify(key)}`)
  } catch (error) {
    if (!(error instanceof CorruptEntry)) throw error
    throw new DamagedBackup(`the backup is damaged: ${error.message}`)
  }
}
