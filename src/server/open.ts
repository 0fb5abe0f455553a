// How a node's ledger and replica are opened: what is checked before anything of them is believed, and what is refused.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type Clock, randomHex } from '../clock.ts'
import { type Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import { DRIVERS, openLedger as openByKind } from '../ledger/drivers.ts'
import { type Ledger, LedgerUnavailable } from '../ledger/ledger.ts'
import type { Logger } from '../log.ts'
import type { Config } from '../node/config.ts'
import { checkFile } from '../replica/check.ts'
import { Replica, type ReplicaOptions } from '../replica/replica.ts'
import { DamagedReplica } from '../replica/store.ts'
import { decodeEntry, encodeEntry, type Genesis, LEDGER_FORMAT } from '../state/entries.ts'
import { ledgerKey, parseKey } from '../state/ledger-keys.ts'

/** The node cannot start; the text says why and what to do. */
export class StartError extends OperatorError {
  override readonly name = 'StartError'
}

/** The ledger of the configuration; a shared one is not asked anything yet. Throws StartError. */
export function openLedger({ ledger: settings, data }: Config): Promise<Ledger> {
  return openByKind({ settings, data, check: checkLedger })
}

async function checkLedger(path: string): Promise<void> {
  const checked = await checkFile('ledger', path)
  if (checked.whole) return
  throw new StartError(
    `the ledger in ${path} is damaged (${checked.reason}). It is the truth and is not rebuilt: move it to another place, and restore a backup.`,
  )
}

/** The ledger for reading only; its node may run, in another process. Throws StartError. */
export async function openLedgerToRead(config: Config, nodeRuns: boolean): Promise<Ledger> {
  const { ledger: settings, data, node } = config
  const file = DRIVERS[settings.kind].file(data)
  if (file !== undefined && !existsSync(file))
    throw new StartError(
      `there is no ledger in ${data}: has node ${node} ever been started with this configuration?`,
    )
  // A node that runs has checked the file at its start.
  const check = nodeRuns ? async (): Promise<void> => undefined : checkLedger
  return openByKind({ settings, data, readOnly: true, check })
}

export type Contact = {
  readonly ledger: Ledger
  readonly keyring: Keyring
  /** This run of the node: 16 random bytes in hex. */
  readonly boot: string
  readonly clock: Clock
}

/**
 * The first contact of a node whose replica is new: the ledger has a genesis, made where there is none, and the keyring
 * opens its key. Throws StartError where the node cannot go on, LedgerUnavailable and UnknownOutcome where it may be
 * tried again.
 */
export async function meetLedger(contact: Contact): Promise<void> {
  const { ledger, keyring } = contact
  const found = (await ledger.read(ledgerKey.genesis)).value ?? (await makeGenesis(contact))
  const genesis = decodeEntry(ledgerKey.genesis, found)
  if (genesis?.kind !== 'genesis') throw new StartError('the genesis of the ledger is none')
  if (genesis.format > LEDGER_FORMAT) {
    throw new StartError(
      `the ledger has format ${genesis.format}, this version knows ${LEDGER_FORMAT}: use a newer one`,
    )
  }
  const why = refusal(keyring, genesis)
  if (why !== undefined) throw new StartError(why)
}

async function makeGenesis({ ledger, keyring, boot, clock }: Contact): Promise<Uint8Array> {
  const { entries } = await ledger.snapshot()
  for await (const { key } of entries) {
    if (parseKey(key) === undefined) continue
    const { value } = await ledger.read(ledgerKey.genesis) // another node may have just begun the ledger
    if (value !== null) return value
    throw new StartError(
      'the ledger has entries and no genesis: a restore was not finished. Run it again, or empty the ledger.',
    )
  }
  const receiptKey = keyring.wrap(clock.random(32), ['receipts'], clock)
  const made = randomHex(clock, 16)
  const value = encodeEntry(
    { kind: 'genesis', identity: made, format: LEDGER_FORMAT, receiptKey },
    { boot, commit: 0 },
  )
  const result = await ledger.commit({
    if: [{ key: ledgerKey.genesis, revision: 0 }],
    put: [{ key: ledgerKey.genesis, value }],
  })
  if (result.ok) return value
  const [{ value: other }] = result.found
  if (other === null) throw new LedgerUnavailable('no-quorum', 'the genesis could not be read')
  return other
}

/** Why a keyring cannot be the one of this ledger; undefined where it can. */
export function refusal(keyring: Keyring, genesis: Genesis): string | undefined {
  try {
    keyring.unwrap(genesis.receiptKey, ['receipts'])
    return undefined
  } catch (error) {
    const why = error instanceof UnknownRootKey ? error.message : 'its root key does not open it'
    return `the keyring is not the one that sealed this ledger (${why}): put the right keyring.json in place`
  }
}

/** `setAside`: why the one that was there is built anew. */
export type OpenedReplica = { readonly replica: Replica; readonly setAside: string | undefined }

/** Opens the replica's file; one that is damaged is set aside, and a new one begins. It does not follow yet. */
export async function openReplica(
  config: Config,
  options: Omit<ReplicaOptions, 'path'>,
  log: Logger,
): Promise<OpenedReplica> {
  const path = join(config.data, 'replica')
  const checked = await checkFile('replica', path)
  let reason = checked.whole ? undefined : checked.reason
  if (reason === undefined) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    try {
      return { replica: await Replica.open({ ...options, path }), setAside: undefined }
    } catch (error) {
      if (!(error instanceof DamagedReplica)) throw error
      reason = error.message
    }
  }
  const aside = setAside(path)
  log.warn({ reason, aside }, 'the replica is set aside and rebuilt from the ledger')
  mkdirSync(path, { recursive: true, mode: 0o700 })
  return { replica: await Replica.open({ ...options, path }), setAside: reason }
}

/** Renames it; of those set aside before, none is kept. */
function setAside(path: string): string {
  for (const name of readdirSync(dirname(path))) {
    if (name.startsWith(`${basename(path)}.damaged`))
      rmSync(join(dirname(path), name), { recursive: true, force: true })
  }
  const aside = `${path}.damaged`
  if (existsSync(path)) renameSync(path, aside)
  return aside
}

export function strangeLedger(reason: string): string {
  return `${reason}: this is not the ledger that the replica followed. Put the right one in its place, or, if it is meant to be this one, run \`coffer replica reset\`.`
}
