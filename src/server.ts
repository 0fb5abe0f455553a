// One node: everything opened in order and closed in reverse. The one place that knows all rooms.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import { type Clock, systemClock } from './clock.ts'
import { Keyring, KeyringError } from './crypto/keyring.ts'
import { Problem } from './errors.ts'
import { EventLog } from './events/log.ts'
import { buildApp, type Log } from './http/app.ts'
import { ApiKeys } from './http/auth.ts'
import { Metrics } from './http/metrics.ts'
import { TokenCalls } from './http/tokens.ts'
import { LedgerUnavailable, UnknownOutcome } from './ledger/ledger.ts'
import { isEcho } from './ledger/settled.ts'
import { type Config, readConfig } from './node/config.ts'
import { lockDirectory } from './node/lock.ts'
import { readPrivateFile } from './node/private.ts'
import { openLedger, openReplica, refusal, StartError, strangeLedger } from './opening.ts'
import type { Replica, ReplicaOptions } from './replica/replica.ts'
import { encodeEntry, type Genesis } from './state/entries.ts'
import { bootKey } from './state/keys.ts'
import { TokenService } from './tokens/tokens.ts'

export const VERSION = '0.1.0'
const RECORDS_BEFORE_WARNING = 100
const PROBE_MS = 1000

export type Node = {
  readonly config: Config
  /** `http://host:port` as it listens. */
  readonly url: string
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
  readonly log?: Logger
}

type Logger = Log & { info(fields: object, message: string): void }

/** Starts a node by its configuration. Throws StartError, ConfigError, InUse, PrivateFileError, KeyringError. */
export async function startNode(initial: Config, options: StartOptions = {}): Promise<Node> {
  const clock = options.clock ?? systemClock
  const log =
    options.log ??
    pino({ level: 'info', base: { node: initial.node } }, pino.destination({ dest: 2, sync: true }))
  const config = initial
  const failed = Promise.withResolvers<Error>()
  const closers: (() => Promise<void> | void)[] = []
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    let keyring = Keyring.parse(readPrivateFile(config.keyring))
    mkdirSync(config.data, { recursive: true, mode: 0o700 })
    const lock = lockDirectory(config.data)
    closers.push(() => lock.release())
    options.locked?.()
    const events = await openEvents(config, clock)
    closers.push(() => events.close())
    events.emit('node.started')
    const { ledger, genesis, boot } = await openLedger(config, keyring, clock)
    closers.push(() => ledger.close())
    events.emit('ledger.connected', { reason: ledger.kind })

    // From here on the node listens: it is alive, and says what it is waiting for.
    let vault: { replica: Replica; tokens: TokenService } | undefined
    let waitingFor = 'the replica is being read'
    let stopping = false
    const tokenService = (): TokenService => {
      if (!vault) throw new Problem('not-ready', 'the node is starting', { reasons: [waitingFor] })
      return vault.tokens
    }
    const keys = new ApiKeys(config.owners)
    const calls = new TokenCalls(lateBound(tokenService), config.fields, config.limits)
    closers.push(() => calls.close())
    let problems: readonly string[] = []
    const notReady = (): readonly string[] =>
      stopping ? ['the node is stopping'] : waitingFor === '' ? problems : [waitingFor]
    const metrics = new Metrics(() =>
      numbers(vault, calls, { config, events, keyring, ready: notReady().length === 0 }),
    )
    const app = await buildApp({
      keys,
      tokens: calls,
      node: {
        notReady: (reads) => (reads && vault && !stopping ? [] : notReady()),
        status: () => status(config, keyring, genesis, vault?.replica),
      },
      events,
      metrics,
      log,
      version: VERSION,
      limits: config.limits,
      ...readTls(config),
      fatal: failed.resolve,
    })
    closers.push(() => app.close())
    await app.listen({ host: config.listen.host, port: config.listen.port })

    const replica = await openReplica(
      config,
      { ledger, identity: genesis.identity, boot, clock, fatal: failed.resolve, events: tellReplica(events) },
      log,
    )
    closers.push(() => replica.close())
    await replica.recognized
    if (replica.problems.length > 0) throw new StartError(strangeLedger(replica.problems[0]))
    waitingFor = 'the replica is catching up'
    await replica.waitApplied(await ledger.head()) // no barrier: that gives up after seconds, and this may take long
    const tokens = new TokenService(replica, () => keyring, clock)
    vault = { replica, tokens }
    const probe = setInterval(async () => {
      warnUnmatched(calls, log)
      problems = [...(await ledger.problems()), ...replica.problems]
    }, PROBE_MS)
    closers.push(() => clearInterval(probe))
    await untilTaken(
      (reason) => {
        waitingFor = reason
      },
      async () => {
        await commitBoot(replica, config.node, boot)
        await openEpochs(tokens, config)
      },
    )
    events.emit('node.ready', { revision: replica.applied })
    const url = urlOf(app, config)
    log.info({ url, revision: replica.applied }, 'ready')
    if (keyring.rewrap) rewrapAll(tokens, log)
    return {
      config,
      url,
      failed: failed.promise,
      reload: async () => {
        const fresh = reread(config, replica.state.genesis ?? genesis)
        keys.replace(fresh.config.owners)
        keyring = fresh.keyring
        await openEpochs(tokens, fresh.config)
        log.info({ owners: fresh.config.owners.length }, 'owners and keyring re-read')
        if (keyring.rewrap) await rewrapAll(tokens, log)
      },
      stop: async () => {
        stopping = true
        // First of all, though it was opened before the replica: what has begun is finished while that is open.
        await app.close()
        events.emit('node.stopped')
        await closeAll()
      },
    }
  } catch (error) {
    await closeAll()
    throw error
  }
}

function openEvents({ data: dir, node, limits }: Config, clock: Clock): Promise<EventLog> {
  return EventLog.open({ dir, node, clock, maxBytes: limits.event_file_bytes, keep: limits.event_files_kept })
}

function readTls({ tls }: Config): { tls?: { cert: Buffer; key: Buffer } } {
  return tls ? { tls: { cert: readFileSync(tls.cert), key: readFileSync(tls.key) } } : {}
}

/** The service once it is there; until then every call throws Problem `not-ready`. */
function lateBound(service: () => TokenService): ConstructorParameters<typeof TokenCalls>[0] {
  return {
    tokenize: async (...args) => service().tokenize(...args),
    detokenize: async (...args) => service().detokenize(...args),
    retokenize: async (...args) => service().retokenize(...args),
    rotate: async (...args) => service().rotate(...args),
    epochs: async (...args) => service().epochs(...args),
  }
}

/** What a reload takes over. Throws ConfigError, PrivateFileError, KeyringError. */
function reread({ file, keyring: path }: Config, genesis: Genesis): { config: Config; keyring: Keyring } {
  const config = readConfig(file)
  const keyring = Keyring.parse(readPrivateFile(path))
  const why = refusal(keyring, genesis)
  if (why !== undefined) throw new KeyringError(why)
  return { config, keyring }
}

/** As the keyring file asks. A failure is told and changes nothing else: the next reload or start tries again. */
async function rewrapAll(tokens: TokenService, log: Logger): Promise<void> {
  try {
    log.info(await tokens.rewrap(), 'keys wrapped by the active root key')
  } catch (error) {
    log.warn({ error: error instanceof Error ? error.message : String(error) }, 'rewrapping has failed')
  }
}

/** Tries until the ledger takes it: what is known is served meanwhile, and `/ready` tells what is missing. */
async function untilTaken(waitingFor: (reason: string) => void, work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      await work()
      return waitingFor('')
    } catch (error) {
      if (
        !(error instanceof UnknownOutcome) &&
        (!(error instanceof LedgerUnavailable) || error.reason === 'closed')
      ) {
        throw error
      }
      waitingFor(error.message)
      await new Promise((resolve) => setTimeout(resolve, PROBE_MS))
    }
  }
}

async function commitBoot(replica: Replica, node: string, boot: string): Promise<void> {
  const key = bootKey(boot)
  const value = encodeEntry({ kind: 'boot', boot, node }, replica.nextWriter())
  await replica.commit({ if: [{ key, revision: 0 }], put: [{ key, value }] }, key)
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
    rebuilt: (reason, revision, ms) => events.emit('replica.rebuilt', { revision, ms, reason }),
    epoch: (owner, epoch, revision) => events.emit('epoch.observed', { owner, epoch, revision }),
    applied: (from, revision) => events.emit('replica.applied', { revision, from }),
  }
}

function status(
  config: Config,
  keyring: Keyring,
  genesis: Genesis,
  replica: Replica | undefined,
): Record<string, unknown> {
  const { revision, digest } = replica?.digest() ?? { revision: 0, digest: '' }
  const head = Math.max(replica?.head ?? 0, revision)
  return {
    node: config.node,
    version: VERSION,
    ledger: { kind: config.ledger.kind, identity: genesis.identity, revision: head },
    replica: { revision, lag: head - revision, digest },
    quorum: replica !== undefined,
    leader: config.node,
    members: [],
    fields: createHash('sha256')
      .update(JSON.stringify([...config.fields].sort()))
      .digest('hex'),
    root_keys: keyring.ids,
  }
}

function numbers(
  vault: { replica: Replica; tokens: TokenService } | undefined,
  calls: TokenCalls,
  node: { config: Config; events: EventLog; keyring: Keyring; ready: boolean },
): ReturnType<ConstructorParameters<typeof Metrics>[0]> {
  const { replica } = vault ?? {}
  const { keyring } = node
  return {
    revision: replica?.applied ?? 0,
    head: replica?.head ?? 0,
    ...(replica?.counts ?? { mappings: 0, segments: 0, ignoredDuplicates: 0, foreignKeys: 0 }),
    eventsDropped: node.events.dropped,
    ready: node.ready,
    fieldMatches: node.config.fields.map((field, i) => [field, calls.fieldMatches[i]]),
    records: calls.records,
    rootKeys: keyring.ids.map((id) => ({ id, active: id === keyring.active })),
    wrappedKeys: vault?.tokens.wrappedKeys() ?? new Map(),
  }
}

const warned = new WeakSet<TokenCalls>()

/** A configured field that matches nothing is probably misspelt: its values stay in clear. Told once. */
function warnUnmatched(calls: TokenCalls, log: Log): void {
  if (calls.records < RECORDS_BEFORE_WARNING || warned.has(calls)) return
  warned.add(calls)
  for (const field of calls.unmatched()) {
    log.warn({ field, records: calls.records }, 'a configured field has matched nothing in any record')
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
    if (isEcho(reason)) return
    throw reason
  })
}
