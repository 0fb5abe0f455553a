// One node: everything opened in order and closed in reverse. It listens as soon as it can say what it waits for, and
// becomes ready in the background; what is certain is served from the moment on when the replica's file is open.
import { mkdirSync, readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import { type Clock, randomHex, systemClock } from '../clock.ts'
import { Keyring, KeyringError } from '../crypto/keyring.ts'
import { Problem } from '../errors.ts'
import { EventLog } from '../events/log.ts'
import { buildApp } from '../http/app.ts'
import { ApiKeys } from '../http/auth.ts'
import { Metrics } from '../http/metrics.ts'
import { SecretCalls } from '../http/secret-calls.ts'
import { TokenCalls } from '../http/token-calls.ts'
import { DRIVERS } from '../ledger/drivers.ts'
import { type Ledger, LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import { isStrayRejection } from '../ledger/lmdb-transaction.ts'
import type { Logger } from '../log.ts'
import { type Config, readConfig } from '../node/config.ts'
import { findEtcd } from '../node/etcd-binary.ts'
import { lockDirectory } from '../node/lock.ts'
import { type Member, startMember } from '../node/member.ts'
import { readPrivateFile } from '../node/private-file.ts'
import type { Replica, ReplicaOptions } from '../replica/replica.ts'
import { encodeEntry, type Genesis, type NodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { TokenService } from '../tokens/tokens.ts'
import { meetLedger, openLedger, openReplica, refusal, StartError, strangeLedger } from './open.ts'
import { makeVault, rewrapAll, sweepReceipts, type Vault } from './services.ts'
import { fieldsHash, Observer, VERSION } from './status.ts'

const RETRY_MS = 500
const LOCK_MS = 500

export type Node = {
  readonly config: Config
  /** `http://host:port` as it listens. */
  readonly url: string
  /** Resolves when requests are served fully; rejects with what ends the node before that. */
  readonly ready: Promise<void>
  /** Re-reads owners and keyring. Throws ConfigError, PrivateFileError, KeyringError; then nothing has changed. */
  reload(): Promise<void>
  /** Drains, then closes in reverse. */
  stop(): Promise<void>
  /** Resolves with the error when the node must end by itself. */
  readonly failed: Promise<Error>
}

export type StartOptions = {
  readonly clock?: Clock
  /** Called once the data directory is this process's own. */
  readonly locked?: () => void
  /** Called with the process id of the node's own etcd member, and with undefined when it has ended. */
  readonly member?: (pid: number | undefined) => void
  readonly log?: Logger
}

/** Starts a node by its configuration. Throws StartError, ConfigError, InUse, NoEtcd, PrivateFileError, KeyringError. */
export async function startNode(config: Config, options: StartOptions = {}): Promise<Node> {
  const starting = new Starting(config, options)
  try {
    await starting.open()
    return starting.run()
  } catch (error) {
    await starting.close()
    throw error
  }
}

class Starting {
  readonly #config: Config
  readonly #options: StartOptions
  readonly #clock: Clock
  readonly #log: Logger
  readonly #boot: string
  readonly #failed = Promise.withResolvers<Error>()
  readonly #stop = new AbortController()
  readonly #closers: (() => Promise<void> | void)[] = []
  #keyring: Keyring
  #member: Member | undefined
  #ledger: Ledger | undefined
  #vault: Vault | undefined
  // Assigned by open(), before anything else is called.
  #events!: EventLog
  #keys!: ApiKeys
  #app!: FastifyInstance
  #observer!: Observer

  constructor(config: Config, options: StartOptions) {
    const { clock = systemClock, log } = options
    this.#config = config
    this.#options = options
    this.#clock = clock
    this.#log =
      log ?? pino({ level: 'info', base: { node: config.node } }, pino.destination({ dest: 2, sync: true }))
    this.#boot = randomHex(clock, 16)
    this.#keyring = Keyring.parse(readPrivateFile(config.keyring))
  }

  /** All that needs no other node. */
  async open(): Promise<void> {
    const config = this.#config
    mkdirSync(config.data, { recursive: true, mode: 0o700 })
    const lock = lockDirectory(config.data, LOCK_MS)
    this.#closers.push(() => lock.release())
    this.#options.locked?.()
    this.#events = await openEvents(config, this.#clock)
    this.#closers.push(() => this.#events.close())
    this.#events.emit('node.started')
    this.#startMember()
    const ledger = await openLedger(config)
    this.#ledger = ledger
    this.#closers.push(() => ledger.close())
    await this.#listen()
  }

  #startMember(): void {
    const config = this.#config
    if (!config.ledger.member) return
    const etcd = findEtcd(config.ledger.member.etcd, (text) => this.#log.info({}, text))
    const { member: changed } = this.#options
    const member = startMember({ config, etcd, log: this.#log, ...(changed ? { changed } : {}) })
    this.#member = member
    this.#closers.push(() => member.stop())
  }

  /** From here on the node is alive, and says what it waits for. */
  async #listen(): Promise<void> {
    const config = this.#config
    const services = (): Vault => {
      if (this.#vault) return this.#vault
      throw new Problem('not-ready', 'the node is starting', { reasons: this.#observer.notReady(false) })
    }
    this.#keys = new ApiKeys(config.owners)
    const calls = new TokenCalls(services, config.fields, config.limits)
    const secrets = new SecretCalls(services, config.limits)
    this.#closers.push(() => calls.close())
    this.#closers.push(() => secrets.close())
    const observer = new Observer({
      config,
      events: this.#events,
      log: this.#log,
      clock: this.#clock,
      calls,
      keyring: () => this.#keyring,
      ledger: () => this.#ledger,
      member: () => this.#member,
      vault: () => this.#vault,
    })
    this.#observer = observer
    this.#closers.push(() => observer.close())
    this.#app = await buildApp({
      keys: this.#keys,
      tokens: calls,
      secrets,
      node: { notReady: (reads) => observer.notReady(reads), status: () => observer.status() },
      events: this.#events,
      metrics: new Metrics(() => observer.numbers()),
      log: this.#log,
      version: VERSION,
      limits: config.limits,
      ...readTls(config),
      fatal: this.#failed.resolve,
    })
    this.#closers.push(() => this.#app.close())
    await this.#app.listen({ host: config.listen.host, port: config.listen.port })
  }

  run(): Node {
    const ready = this.#becomeReady()
    // Whoever waits for `ready` hears of it, and so does whoever waits for `failed`.
    ready.catch((error: Error) => this.#failed.resolve(error))
    return {
      config: this.#config,
      url: urlOf(this.#app, this.#config),
      ready,
      failed: this.#failed.promise,
      reload: () => this.#reload(),
      stop: async () => {
        this.#observer.stopping = true
        this.#stop.abort()
        // First of all, though it was opened before the replica: what has begun is finished while that is open.
        await this.#app.close()
        await ready.catch(() => undefined)
        this.#events.emit('node.stopped')
        await this.close()
      },
    }
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close()
  }

  async #becomeReady(): Promise<void> {
    const opened = performance.now()
    const { replica, setAside } = await this.#openReplica()
    const vault = makeVault(replica, () => this.#keyring, this.#clock)
    this.#waitFor('the ledger is asked')
    // A replica that has followed a ledger knows it again by itself, and serves what it knows before that is reached.
    if (replica.identity === undefined) await this.#untilTaken(() => this.#meet())
    this.#serve(vault)
    replica.follow()
    await this.#untilTaken(() => this.#catchUp(replica))
    this.#serve(vault)
    this.#events.emit('ledger.connected', { reason: this.#config.ledger.kind })
    if (setAside !== undefined) {
      const ms = Math.round(performance.now() - opened)
      this.#events.emit('replica.rebuilt', { revision: replica.applied, ms, reason: setAside })
    }
    await this.#untilTaken(async () => {
      await this.#commitBoot(replica)
      await openEpochs(vault.tokens, this.#config)
    })
    await this.#observer.probe()
    this.#waitFor('')
    this.#events.emit('node.ready', { revision: replica.applied })
    this.#log.info({ url: urlOf(this.#app, this.#config), revision: replica.applied }, 'ready')
    this.#closers.push(sweepReceipts(vault, this.#clock, this.#log, this.#failed.resolve))
    if (this.#keyring.rewrap) void rewrapAll(vault, this.#log)
  }

  async #openReplica(): ReturnType<typeof openReplica> {
    const ledger = this.#ledger
    if (!ledger) throw new StartError('the ledger is not open')
    const opened = await openReplica(
      this.#config,
      {
        ledger,
        boot: this.#boot,
        clock: this.#clock,
        fatal: this.#failed.resolve,
        events: tellReplica(this.#events),
      },
      this.#log,
    )
    this.#closers.push(() => opened.replica.close())
    return opened
  }

  /** Throws StartError where the keyring is not the ledger's. */
  #serve(vault: Vault): void {
    const { genesis } = vault.replica.state
    const why = genesis && refusal(this.#keyring, genesis)
    if (why !== undefined) throw new StartError(why)
    this.#vault = vault
  }

  #waitFor(reason: string): void {
    this.#observer.waitingFor = reason
  }

  async #meet(): Promise<void> {
    const ledger = this.#ledger
    if (!ledger) throw new StartError('the ledger is not open')
    await meetLedger({ ledger, keyring: this.#keyring, boot: this.#boot, clock: this.#clock })
  }

  /** No barrier: that gives up after seconds, and this may take long. */
  async #catchUp(replica: Replica): Promise<void> {
    await replica.recognized
    const [strange] = replica.problems
    if (strange !== undefined) throw new LedgerUnavailable('ledger-changed', strange)
    const head = (await this.#ledger?.head()) ?? 0
    this.#waitFor('the replica is catching up')
    await replica.waitApplied(head)
  }

  /** Names this run of the node, and what it has read: its own view of the nodes is right from then on. */
  async #commitBoot(replica: Replica): Promise<void> {
    const key = ledgerKey.boot(this.#boot)
    const writer = replica.nextWriter()
    const value = encodeEntry({ kind: 'boot', boot: this.#boot, node: this.#config.node }, writer)
    const about = encodeEntry(nodeEntry(this.#config, this.#keyring), writer)
    const { revision } = await replica.commit(
      {
        if: [{ key, revision: 0 }],
        put: [
          { key, value },
          { key: ledgerKey.node(this.#config.node), value: about },
        ],
      },
      key,
    )
    await replica.waitApplied(revision)
  }

  async #reload(): Promise<void> {
    const { config, keyring } = reread(this.#config, this.#vault?.replica.state.genesis)
    this.#keys.replace(config.owners)
    this.#keyring = keyring
    const vault = this.#vault
    if (!vault || this.#observer.waitingFor !== '') return // what starts reads them by itself
    await this.#untilTaken(async () => {
      await tellNode(vault.replica, nodeEntry(this.#config, keyring))
      await openEpochs(vault.tokens, config)
    })
    this.#log.info({ owners: config.owners.length }, 'owners and keyring re-read')
    if (keyring.rewrap) await rewrapAll(vault, this.#log)
  }

  /**
   * Tries until the ledger takes it: what is known is served meanwhile, and `/ready` tells what is missing. A ledger in a
   * file that is not the one that was followed is the operator's mistake on this machine, and ends the start.
   */
  async #untilTaken(work: () => Promise<void>): Promise<void> {
    const { signal } = this.#stop
    for (;;) {
      try {
        return await unlessAborted(work(), signal)
      } catch (error) {
        const unavailable = error instanceof LedgerUnavailable
        if (signal.aborted || (!unavailable && !(error instanceof UnknownOutcome))) throw error
        if (unavailable && error.reason === 'closed') throw error
        if (unavailable && error.reason === 'ledger-changed' && !DRIVERS[this.#config.ledger.kind].shared)
          throw new StartError(strangeLedger(error.message))
        if (this.#observer.waitingFor !== '') this.#waitFor(error.message)
        await unlessAborted(new Promise((resolve) => setTimeout(resolve, RETRY_MS)), signal)
      }
    }
  }
}

/** The promise, or LedgerUnavailable `closed` when the signal comes first. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(new LedgerUnavailable('closed', 'the node is stopping'))
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort)
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function openEvents({ data: dir, node, limits }: Config, clock: Clock): Promise<EventLog> {
  return EventLog.open({ dir, node, clock, maxBytes: limits.event_file_bytes, keep: limits.event_files_kept })
}

function readTls({ tls }: Config): { tls?: { cert: Buffer; key: Buffer } } {
  return tls ? { tls: { cert: readFileSync(tls.cert), key: readFileSync(tls.key) } } : {}
}

/** What a reload takes over. Throws ConfigError, PrivateFileError, KeyringError. */
function reread(
  { file, keyring: path }: Config,
  genesis: Genesis | undefined,
): { config: Config; keyring: Keyring } {
  const config = readConfig(file)
  const keyring = Keyring.parse(readPrivateFile(path))
  const why = genesis && refusal(keyring, genesis)
  if (why !== undefined) throw new KeyringError(why)
  return { config, keyring }
}

function nodeEntry(config: Config, keyring: Keyring): NodeEntry {
  const { active, ids } = keyring
  return { kind: 'node', node: config.node, fields: fieldsHash(config), rootKeys: ids, active }
}

/** Only this node puts its own entry: a refusal means that a commit of its own came late, and it is put again. */
async function tellNode(replica: Replica, entry: NodeEntry): Promise<void> {
  const key = ledgerKey.node(entry.node)
  for (let told = false; !told; ) {
    await replica.barrier()
    const value = encodeEntry(entry, replica.nextWriter())
    const revision = replica.state.nodeRevision(entry.node)
    told = (await replica.commit({ if: [{ key, revision }], put: [{ key, value }] }, key)).ok
  }
}

async function openEpochs(tokens: TokenService, config: Config): Promise<void> {
  for (let i = 0; i < config.owners.length; i += 256) {
    await Promise.all(config.owners.slice(i, i + 256).map(({ id }) => tokens.openFirst(id)))
  }
}

function tellReplica(events: EventLog): ReplicaOptions['events'] {
  return {
    lost: (reason) => events.emit('ledger.lost', { reason }),
    recovered: () => events.emit('ledger.recovered'),
    caughtUp: (from, to, ms) => events.emit('replica.caught-up', { from, to, ms }),
    epoch: (owner, epoch, revision) => events.emit('epoch.observed', { owner, epoch, revision }),
    applied: (from, revision) => events.emit('replica.applied', { revision, from }),
  }
}

function urlOf(app: FastifyInstance, config: Config): string {
  const address = app.server.address()
  if (address === null || typeof address === 'string')
    throw new StartError('the node does not listen on a port')
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${config.tls ? 'https' : 'http'}://${host}:${address.port}`
}

/** Call once in a process that runs nodes: what lmdb leaves behind a failed write has been told already. */
export function expectEchoes(): void {
  process.on('unhandledRejection', (reason) => {
    if (isStrayRejection(reason)) return
    throw reason
  })
}
