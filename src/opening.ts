// How a node's ledger and replica are opened: what is checked before anything of them is believed, and what is refused.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Clock } from './clock.ts'
import { type Keyring, UnknownRootKey } from './crypto/keyring.ts'
import type { Log } from './http/app.ts'
import { CheckedLedger } from './ledger/checked.ts'
import { EtcdLedger } from './ledger/etcd.ts'
import type { Ledger } from './ledger/ledger.ts'
import { LmdbLedger } from './ledger/lmdb.ts'
import type { Config, EtcdConfig } from './node/config.ts'
import { checkFile } from './replica/check.ts'
import { Replica, type ReplicaOptions } from './replica/replica.ts'
import { DamagedReplica } from './replica/store.ts'
import { decodeEntry, encodeEntry, type Genesis, LEDGER_FORMAT } from './state/entries.ts'
import { GENESIS } from './state/keys.ts'

/** The node cannot start; the text says why and what to do. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/** A boot: 16 random bytes in hex, and the ledger it writes to. */
export type Opened = { readonly ledger: Ledger; readonly genesis: Genesis; readonly boot: string }

export async function openLedger(config: Config, keyring: Keyring, clock: Clock): Promise<Opened> {
  const ledger = new CheckedLedger(
    config.ledger.kind === 'etcd' ? openEtcd(config.ledger) : await openLmdb(config),
  )
  const boot = Buffer.from(clock.random(16)).toString('hex')
  try {
    return { ledger, boot, genesis: await readGenesis(ledger, keyring, boot, clock) }
  } catch (error) {
    await ledger.close()
    throw error
  }
}

/** Throws StartError where the file is damaged. */
async function openLmdb(config: Config): Promise<LmdbLedger> {
  const path = join(config.data, 'ledger')
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const checked = await checkFile('ledger', path)
  if (checked.whole) return new LmdbLedger(path)
  throw new StartError(
    `the ledger in ${path} is damaged (${checked.reason}). It is the truth and is not rebuilt: put a backup in its place.`,
  )
}

/** An etcd cluster that is given to Coffer alone. */
function openEtcd({ endpoints, tls, member }: EtcdConfig): EtcdLedger {
  if (member)
    throw new StartError(
      'ledger.member is not part of this version: run etcd beside the node, and name its endpoints',
    )
  const files = tls && { ca: readFileSync(tls.ca), cert: readFileSync(tls.cert), key: readFileSync(tls.key) }
  return new EtcdLedger(endpoints, files)
}

/** The genesis of the ledger, made when it is empty; the keyring must open its key. */
async function readGenesis(ledger: Ledger, keyring: Keyring, boot: string, clock: Clock): Promise<Genesis> {
  let found = (await ledger.read(GENESIS)).value
  if (found === null) {
    const identity = Buffer.from(clock.random(16)).toString('hex')
    const receiptKey = keyring.wrap(clock.random(32), ['receipts'], clock)
    const made: Genesis = { kind: 'genesis', identity, format: LEDGER_FORMAT, receiptKey }
    const value = encodeEntry(made, { boot, commit: 0 })
    const result = await ledger.commit({
      if: [{ key: GENESIS, revision: 0 }],
      put: [{ key: GENESIS, value }],
    })
    if (result.ok) return made
    found = result.found[0].value
  }
  const genesis = found ? decodeEntry(GENESIS, found) : undefined
  if (genesis?.kind !== 'genesis') throw new StartError('the ledger has no genesis')
  if (genesis.format > LEDGER_FORMAT) {
    throw new StartError(
      `the ledger has format ${genesis.format}, this version knows ${LEDGER_FORMAT}: use a newer one`,
    )
  }
  const why = refusal(keyring, genesis)
  if (why !== undefined) throw new StartError(why)
  return genesis
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

/** Opens the replica; one that is damaged or follows another ledger is set aside, and a new one is built. */
export async function openReplica(
  config: Config,
  options: Omit<ReplicaOptions, 'path'>,
  log: Log,
): Promise<Replica> {
  const path = join(config.data, 'replica')
  const checked = await checkFile('replica', path)
  let reason = checked.whole ? undefined : checked.reason
  if (reason === undefined) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    try {
      return await Replica.open({ ...options, path })
    } catch (error) {
      if (!(error instanceof DamagedReplica)) throw error
      reason = error.message
    }
  }
  const aside = setAside(path)
  log.warn({ reason, aside }, 'the replica is set aside and rebuilt from the ledger')
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const started = performance.now()
  const replica = await Replica.open({ ...options, path })
  await replica.waitApplied(await options.ledger.head())
  options.events.rebuilt(reason, replica.applied, Math.round(performance.now() - started))
  return replica
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
