// The start of a node: every part is opened in order, and closed in reverse. The node listens before the
// replica is open, and becomes ready in the background (ready.ts).
import { lookup } from 'node:dns/promises'
import { mkdirSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { assert } from '../assert.ts'
import { type Clock, Deadline, systemClock } from '../clock.ts'
import { connectionsAtMost, keepReserve } from '../descriptors.ts'
import { Problem } from '../errors.ts'
import { EventLog } from '../events/log.ts'
import { buildApp } from '../http/app.ts'
import { Connections } from '../http/connections.ts'
import { listenOn } from '../http/listener.ts'
import { Metrics } from '../http/metrics.ts'
import { SecretCalls } from '../http/secret-calls.ts'
import { TokenCalls } from '../http/token-calls.ts'
import { LedgerUnavailable } from '../ledger/ledger.ts'
import { isStrayRejection } from '../ledger/lmdb-transaction.ts'
import type { Logger } from '../log.ts'
import { type Config, readConfig } from '../node/config.ts'
import { findEtcd } from '../node/etcd-binary.ts'
import { lockDirectory } from '../node/lock.ts'
import { type Member, startMember } from '../node/member.ts'
import { CleanStop } from '../replica/clean-stop.ts'
import { sleep } from '../waiting.ts'
import { beginReplicaCheck, checkPrivateFiles, openLedger, readKeyring, readTls, StartError } from './open.ts'
import { Probe } from './probe.ts'
import { problemOf } from './problems.ts'
import { becomeReady } from './ready.ts'
import { reload, sourcesOf } from './reload.ts'
import { closeAll, type RunningNode, runningNode } from './running-node.ts'
import type { NodeServices } from './services.ts'
import { metricsOf, notReady, statusOf, storedBy } from './status.ts'
import { stderrLog } from './stderr-log.ts'
import { VERSION } from './version.ts'
import { warnOfEndedKeys } from './warnings.ts'

/**
 * How long the lock of the data directory is waited for: commands hold the lock briefly to see whether a node
 * runs.
 */
const LOCK_MS = 500
/** A request without quorum is answered 5 s after its last byte: the rest is for the way of the answer. */
const REQUEST_MS = 4500

export type Node = {
  readonly config: Config
  /** Origin of the API, as `http://host:port`. */
  readonly url: string
  /** Resolves when requests are served fully; rejects with the error that has ended the start. */
  readonly ready: Promise<void>
  /**
   * Rereads owners, keyring and the certificate for callers. Faults are logged, and the content read before
   * stays in force.
   */
  reload(): void
  /** Drains, then closes in reverse. */
  stop(): Promise<void>
  /** Resolves with an error when the node has to end. */
  readonly failed: Promise<Error>
}

type StartOptions = {
  readonly clock?: Clock
  /** Called once this process holds the lock of the data directory. */
  readonly locked?: () => void
  /**
   * Called with the process id of the node's own etcd member, and with undefined when the member has ended.
   */
  readonly member?: (pid: number | undefined) => void
  readonly log?: Logger
  /** As `ReplicaOptions.checkpointEvery`. */
  readonly checkpointEvery?: number
  /** How old the text of /metrics may be, in milliseconds: 0 for tests that compare numbers. */
  readonly metricsAgeMs?: number
}

/**
 * Starts a node and returns when the node listens. Throws StartError, ConfigError, InUse, NoEtcd,
 * PrivateFileError, KeyringError, errors of the system; then every part is closed again.
 */
export async function startNode(config: Config, options: StartOptions = {}): Promise<Node> {
  const { clock = systemClock, log = stderrLog(config.node), checkpointEvery, metricsAgeMs } = options
  const closers: RunningNode['closers'] = []
  try {
    keepReserve() // before callers can take the descriptors of a node
    checkPrivateFiles(config) // a key readable by others ends the start before anything is opened

    const files = await openFiles(config, { clock, log, ...options }, closers)
    const { cleanStop } = files

    // Before the ledger: the driver connects to the member.
    const member = startOwnMember(config, log, options)
    if (member) closers.push(() => member.stop())

    const stop = new AbortController()
    const replicaCheck = beginCheck({ config, cleanStop, stop, closers })

    // A ledger in a file is checked by a child process first; a shared ledger is not asked anything yet.
    const ledger = await openLedger(config, cleanStop)
    closers.push(() => ledger.close())
    const failed = Promise.withResolvers<Error>()
    void failed.promise.then(() => cleanStop.spoil()) // damage may have been seen
    const opened = { config, clock, log, ...files, ledger, member, replicaCheck }
    const node = runningNode({
      ...opened,
      stop,
      closers,
      fail: failed.resolve,
      checkpointEvery,
      metricsAgeMs,
    })
    warnOfEndedKeys(node)

    // Before the replica is opened, because reading the replica takes long: /health and /ready answer
    // meanwhile, and calls are 503 until becomeReady sets `node.services`.
    const { app, probe } = await listen(node)
    const url = urlOf(app, config)

    // In the background, because a ledger without quorum may take any time to answer. Opens the replica.
    const ready = becomeReady(node, { probe, url })
    ready.catch(failed.resolve) // for callers that wait for `failed` only

    return {
      config,
      url,
      ready,
      failed: failed.promise,
      reload: () => reload(node, sourcesOf(node, app)),
      stop: () => stopNode(node, { app, ready, failed: failed.promise }),
    }
  } catch (error) {
    await closeAll(closers)
    throw error
  }
}

type Surroundings = Pick<StartOptions, 'locked'> & { readonly clock: Clock; readonly log: Logger }

/** Takes the lock of the data directory; all other parts are opened under the lock. */
async function openFiles(
  config: Config,
  { clock, log, locked }: Surroundings,
  closers: RunningNode['closers'],
): Promise<Pick<RunningNode, 'owners' | 'keyring' | 'cleanStop' | 'events'>> {
  mkdirSync(config.data, { recursive: true, mode: 0o700 })
  const lock = lockDirectory(config.data, LOCK_MS)
  closers.push(() => lock.release())
  locked?.()

  // Under the lock: a command that has found no node running has told nobody of its change.
  const { owners } = readConfig(config.file)
  const keyring = readKeyring(config)
  const cleanStop = takeCleanStop(config, log, closers)

  const events = await openEvents(config, clock)
  closers.push(() => events.close())
  events.emit('node.started')
  return { owners, keyring, cleanStop, events }
}

type Stopping = {
  readonly app: FastifyInstance
  readonly ready: Promise<void>
  readonly failed: Promise<Error>
}

async function stopNode(node: RunningNode, { app, ready, failed }: Stopping): Promise<void> {
  node.stopping = true
  await drained(node, failed)
  node.stop.abort(new LedgerUnavailable('closed', 'the node is stopping'))
  // HTTP drains first, though opened before the replica: requests that have begun still need the replica.
  await app.close()
  await ready.catch(() => undefined)
  node.events.emit('node.stopped')
  await closeAll(node.closers)
}

/**
 * Load balancers learn from /ready that the node stops, and send elsewhere; until then requests are served. A
 * node that fails meanwhile stops at once.
 */
async function drained({ config, log, waitingFor }: RunningNode, failed: Promise<Error>): Promise<void> {
  const { drain_seconds } = config.limits
  if (drain_seconds === 0 || waitingFor !== '') return
  log.info({ drain_seconds }, 'stopping: /ready is 503, requests are served until the drain has ended')
  const cut = new AbortController()
  void failed.then(() => cut.abort())
  await sleep(drain_seconds * 1000, cut.signal)
}

/** Taken before ledger and replica are opened for writing; the next note is written when both are closed. */
function takeCleanStop({ data }: Config, log: Logger, closers: RunningNode['closers']): CleanStop {
  const cleanStop = CleanStop.take(data)
  const warn = ({ message }: Error): void =>
    log.warn({ reason: message }, 'the stop is not noted: the next start reads all files through')
  closers.push(() => cleanStop.write().catch(warn))
  return cleanStop
}

/** The check of the replica; the start ends the check where the start fails. */
function beginCheck({
  config,
  cleanStop,
  stop,
  closers,
}: Pick<RunningNode, 'config' | 'cleanStop' | 'stop' | 'closers'>): RunningNode['replicaCheck'] {
  const check = beginReplicaCheck(config, cleanStop, stop.signal)
  closers.push(async () => {
    stop.abort()
    await check.catch(() => undefined)
  })
  return check
}

function openEvents({ data: dir, node, limits }: Config, clock: Clock): Promise<EventLog> {
  const { event_file_bytes, event_files_kept, event_bytes_kept, event_days_kept } = limits
  const kept = { files: event_files_kept, bytes: event_bytes_kept, days: event_days_kept }
  return EventLog.open({ dir, node, clock, limits: { fileBytes: event_file_bytes, ...kept } })
}

/** Starts the node's own etcd member, where the configuration has one. Throws NoEtcd. */
function startOwnMember(
  config: Config,
  log: Logger,
  { member: changed }: Pick<StartOptions, 'member'>,
): Member | undefined {
  if (!config.ledger.member) return undefined
  const etcd = findEtcd(config.ledger.member.etcd, (text) => log.info({}, text))
  return startMember({ config, etcd, log, ...(changed ? { changed } : {}) })
}

/** Opens the calls of the API, the probe and the port. */
async function listen(node: RunningNode): Promise<{ readonly app: FastifyInstance; readonly probe: Probe }> {
  const { config, clock, apiKeys, events, log, closers } = node
  const { fields, limits, listen } = config
  // Calls ask for the services with every request, because the services are opened later.
  const services = (): NodeServices => {
    if (node.services) return node.services
    throw new Problem('not-ready', 'the node is starting', { reasons: notReady(node, false) })
  }
  const tokens = new TokenCalls(services, fields, limits)
  closers.push(() => tokens.close())
  const secrets = new SecretCalls(services, limits)
  closers.push(() => secrets.close())
  const probe = new Probe(node, tokens)
  closers.push(() => probe.close())
  const listener = {
    tls: readTls(config),
    connections: new Connections(connectionsAtMost(), log),
    keepAliveMs: limits.keep_alive_seconds * 1000,
  }
  const app = await buildApp({
    deadline: () => new Deadline(clock, REQUEST_MS, () => node.health.quorum),
    clock,
    keys: apiKeys,
    tokens,
    secrets,
    node: {
      notReady: (forReads) => notReady(node, forReads),
      status: () => statusOf(node),
      stored: (owner) => storedBy(node, owner),
    },
    events,
    metrics: new Metrics(() => metricsOf(node, tokens), {
      ageMs: node.metricsAgeMs,
      // Commands wait for what a reload has put into force.
      stamp: () => {
        const { ownersHash, keyring, services } = node
        return `${ownersHash} ${keyring.active} ${keyring.ids} ${services?.replica.state.genesisRevision}`
      },
    }),
    log,
    version: VERSION,
    limits,
    ...listener,
    problemOf,
    fatal: node.fail,
  })
  closers.push(() => app.close())
  await listenOn(app, await addressesOf(listen.host), { port: listen.port, log, ...listener })
  return { app, probe }
}

/** Throws errors of the system where the name is unknown. */
async function addressesOf(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true })
  assert(found.length > 0, 'a name that is found has an address')
  return [...new Set(found.map(({ address }) => address))]
}

/** The origin of the listening node, with the actual port where the configuration has port 0. */
function urlOf(app: FastifyInstance, config: Config): string {
  const address = app.server.address()
  if (address === null || typeof address === 'string')
    throw new StartError('the node does not listen on a port: set `listen` to host:port')
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${config.tls ? 'https' : 'http'}://${host}:${address.port}`
}

/**
 * For a process with nodes, called once. After a failed write lmdb rejects promises out of reach of any
 * handler; the failure itself has been reported by then.
 */
export function ignoreStrayRejections(): void {
  process.on('unhandledRejection', (reason) => {
    if (isStrayRejection(reason)) return
    throw reason
  })
}
