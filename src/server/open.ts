// Opening a node's keyring, ledger and replica, with the checks before their content is used.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Deadline, randomHex } from '../clock.ts'
import { Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import type { TlsFiles } from '../http/listener.ts'
import { DRIVERS, type LedgerTls, openLedger as openByKind } from '../ledger/drivers.ts'
import { type Ledger, LedgerUnavailable } from '../ledger/ledger.ts'
import type { Config } from '../node/config.ts'
import { readPrivateFile } from '../node/private-file.ts'
import { readLedgerTls, readTlsPair } from '../node/tls-files.ts'
import { checkFile, type FileCheck, WHOLE } from '../replica/check.ts'
import { CleanStop } from '../replica/clean-stop.ts'
import { LmdbStore } from '../replica/lmdb-store.ts'
import { Replica, type ReplicaOptions } from '../replica/replica.ts'
import { decodeEntry, encodeEntry, type Genesis } from '../state/entries.ts'
import { ledgerKey, parseKey, snapshotRanges } from '../state/ledger-keys.ts'
import { DamagedReplica } from '../state/stored.ts'
import { LEDGER_FORMAT } from '../state/writer.ts'
import type { RunningNode } from './running-node.ts'

/** For the commit of the genesis, until it is tried again. */
const GENESIS_MS = 4000

/** The node cannot start; the message says why and what to do. */
export class StartError extends OperatorError {
  override readonly name = 'StartError'
}

/** Throws PrivateFileError where others can read the file, KeyringError where the file is not a keyring. */
export function readKeyring({ keyring }: Config): Keyring {
  return Keyring.parseFile(readPrivateFile(keyring), keyring)
}

/**
 * The certificate and key for callers; undefined: callers come without TLS. Throws TlsFileError,
 * PrivateFileError.
 */
export function readTls({ tls }: Config): TlsFiles | undefined {
  return tls && readTlsPair(tls)
}

/** Throws TlsFileError, PrivateFileError, KeyringError where keyring, certificates or keys cannot be used. */
export function checkPrivateFiles(config: Config): void {
  readKeyring(config)
  readTls(config)
  ledgerTls(config)
}

function ledgerTls({ ledger: { tls } }: Config): LedgerTls | undefined {
  return tls && readLedgerTls(tls)
}

/**
 * Opens the configured ledger; a shared ledger is not asked anything yet. A file that the last stop vouches
 * for is not read through. Throws StartError, NotChecked, TlsFileError, PrivateFileError.
 */
export async function openLedger(config: Config, cleanStop = CleanStop.take(config.data)): Promise<Ledger> {
  const { ledger: settings, data } = config
  const tls = ledgerTls(config)
  const file = DRIVERS[settings.kind].file(data)
  const known = file !== undefined && cleanStop.isWhole(file)
  const ledger = await openByKind({ settings, tls, data, check: known ? unchecked : checkLedger })
  if (file !== undefined) cleanStop.add(file)
  return ledger
}

const unchecked = async (): Promise<void> => undefined

async function checkLedger(path: string): Promise<void> {
  const checked = await checkFile('ledger', path)
  if (checked.whole) return
  throw new StartError(`the ledger in ${path} is damaged (${checked.reason}) and cannot be rebuilt`, {
    hint: 'move it to another place, and restore a backup',
  })
}

/**
 * Opens the ledger for reading only, while the node may run in another process. Throws StartError,
 * NotChecked, TlsFileError, PrivateFileError.
 */
export async function openLedgerToRead(config: Config, nodeRuns: boolean): Promise<Ledger> {
  const { ledger: settings, data, node } = config
  const file = DRIVERS[settings.kind].file(data)
  if (file !== undefined && !existsSync(file))
    throw new StartError(`there is no ledger in ${data}`, {
      hint: `start node ${node} once with this configuration`,
    })
  // A node that runs has checked the file at its start.
  const check = nodeRuns ? unchecked : checkLedger
  return openByKind({ settings, tls: ledgerTls(config), data, readOnly: true, check })
}

type GenesisOptions = Pick<RunningNode, 'ledger' | 'keyring' | 'boot' | 'clock'>

/**
 * Checks the ledger's genesis before a new replica follows the ledger; an empty ledger gets a genesis. Throws
 * StartError and OtherFormat where the node cannot use the ledger, LedgerUnavailable and UnknownOutcome where
 * another try may help.
 */
export async function checkGenesis(options: GenesisOptions): Promise<void> {
  const { ledger, keyring } = options
  const value = (await ledger.read(ledgerKey.genesis)).value ?? (await makeGenesis(options))
  const genesis = decodeEntry(ledgerKey.genesis, value)
  if (genesis?.kind !== 'genesis')
    throw new StartError("the ledger's genesis is invalid", { hint: 'restore a backup' })
  const mismatch = keyringMismatch(keyring, genesis)
  if (mismatch !== undefined) throw new StartError(mismatch)
}

/** Puts a genesis into an empty ledger. Returns the ledger's genesis, perhaps of another node. */
async function makeGenesis({ ledger, keyring, boot, clock }: GenesisOptions): Promise<Uint8Array> {
  const { entries } = await ledger.snapshot(snapshotRanges([]))
  for await (const { key } of entries) {
    if (parseKey(key) === undefined) continue
    // Another node may have put the genesis since it was read.
    const { value } = await ledger.read(ledgerKey.genesis)
    if (value !== null) return value
    throw new StartError('the ledger has entries and no genesis, so a restore was not finished', {
      hint: 'run the restore again, or empty the ledger',
    })
  }
  const receiptKey = keyring.wrap(clock.random(32), ['receipts'], clock)
  const identity = randomHex(clock, 16)
  const value = encodeEntry(
    { kind: 'genesis', identity, format: LEDGER_FORMAT, receiptKey },
    { boot, commit: 0 },
  )
  const commit = {
    if: [{ key: ledgerKey.genesis, revision: 0 }],
    put: [{ key: ledgerKey.genesis, value }],
  }
  const result = await ledger.commit(commit, new Deadline(clock, GENESIS_MS))
  if (result.ok) return value
  const [{ value: other }] = result.found
  if (other === null) throw new LedgerUnavailable('no-quorum', 'the genesis could not be read')
  return other
}

/**
 * Why a keyring does not belong to the ledger of a genesis; undefined where the keyring opens the genesis'
 * key.
 */
export function keyringMismatch(keyring: Keyring, genesis: Genesis): string | undefined {
  try {
    keyring.unwrap(genesis.receiptKey, ['receipts'])
    return undefined
  } catch (error) {
    const why = error instanceof UnknownRootKey ? error.message : 'its root key does not open the ledger'
    return `the keyring is not the keyring of this ledger (${why}): put the right keyring.json in place`
  }
}

const ASIDE = '.damaged'

type OpenedReplica = {
  readonly replica: Replica
  /** Why the replica is rebuilt from nothing; undefined where the file could be used. */
  readonly setAside: string | undefined
}

/**
 * Begins to read the replica through in a child process, while the ledger is read through in another; a file
 * that the last stop vouches for is not read. `signal` ends the check.
 */
export function beginReplicaCheck(
  { data }: Config,
  cleanStop: CleanStop,
  signal: AbortSignal,
): Promise<FileCheck> {
  const path = join(data, 'replica')
  if (cleanStop.isWhole(join(path, 'data.mdb'))) return Promise.resolve(WHOLE)
  const check = checkFile('replica', path, { signal })
  check.catch(() => undefined) // openReplica throws the error, where the start gets so far
  return check
}

/**
 * Opens the replica, once the file is checked. A damaged file is set aside, and the replica begins empty. The
 * replica does not follow yet. Throws NotChecked, and the reason of `stop`.
 */
export async function openReplica(
  {
    config,
    log,
    cleanStop,
    replicaCheck,
  }: Pick<RunningNode, 'config' | 'log' | 'cleanStop' | 'replicaCheck'>,
  options: Omit<ReplicaOptions, 'store'>,
): Promise<OpenedReplica> {
  const path = join(config.data, 'replica')
  const file = join(path, 'data.mdb')
  const open = async (): Promise<Replica> => {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const replica = await Replica.open({ ...options, store: new LmdbStore(path) })
    cleanStop.add(file)
    return replica
  }
  const checked = await replicaCheck
  let reason = checked.whole ? undefined : checked.reason
  if (reason === undefined) {
    try {
      return { replica: await open(), setAside: undefined }
    } catch (error) {
      if (!(error instanceof DamagedReplica)) throw error
      reason = error.message
    }
  }
  removeSetAside(config)
  const aside = `${path}${ASIDE}`
  if (existsSync(path)) renameSync(path, aside)
  log.warn({ reason, aside }, 'the replica is set aside and rebuilt from the ledger')
  return { replica: await open(), setAside: reason }
}

/** Removes replicas that this start or an earlier start has set aside. Returns their names. */
export function removeSetAside({ data }: Config): string[] {
  const names = readdirSync(data).filter((name) => name.startsWith(`replica${ASIDE}`))
  for (const name of names) rmSync(join(data, name), { recursive: true, force: true })
  return names
}
