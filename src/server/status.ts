// Reports of a node: the reasons of /ready, the answer of /status, the numbers of /metrics.
import { assert } from '../assert.ts'
import type { NodeNumbers } from '../http/metrics.ts'
import type { NodeStatus } from '../http/route.ts'
import type { TokenCalls } from '../http/token-calls.ts'
import { DRIVERS } from '../ledger/drivers.ts'
import { disagreements, fieldsHash } from './agreement.ts'
import type { RunningNode } from './running-node.ts'
import { VERSION } from './version.ts'

/**
 * Why requests cannot be served fully; with `forReads`, why known tokens cannot be served. Empty when ready.
 */
export function notReady(node: RunningNode, forReads: boolean): readonly string[] {
  if (node.stopping) return ['the node is stopping']
  const { config, health, member, services, waitingFor } = node
  if (forReads && services) return []
  // A problem of the member is reported together with problems of the ledger only: other members may serve
  // the ledger.
  const ofMember = member?.problem !== undefined && health.problems.length > 0 ? [member.problem] : []
  if (waitingFor !== '') return unique([waitingFor, ...health.problems, ...ofMember])
  assert(services, 'a node that has become ready has services')
  const { problems, state } = services.replica
  return unique([...health.problems, ...problems, ...ofMember, ...disagreements(config.node, state.nodes)])
}

function unique(reasons: readonly string[]): readonly string[] {
  return [...new Set(reasons)]
}

/** The answer of `GET /status`. */
export function statusOf({
  config,
  health,
  keyring,
  ownersHash,
  services,
}: RunningNode): Record<string, unknown> {
  const replica = services?.replica
  const { revision, digest } = replica?.digest() ?? { revision: 0, digest: '' }
  const head = Math.max(replica?.head ?? 0, revision)
  const { quorum, leader, members } = health
  return {
    node: config.node,
    version: VERSION,
    ledger: { kind: config.ledger.kind, identity: replica?.identity ?? '', revision: head },
    replica: { revision, lag: head - revision, digest },
    quorum,
    leader: DRIVERS[config.ledger.kind].shared ? (leader ?? null) : config.node,
    members,
    fields: fieldsHash(config),
    owners: ownersHash,
    root_keys: keyring.ids,
  }
}

/** As `NodeStatus.stored`. */
export function storedBy({ quotas, services }: RunningNode, owner: string): ReturnType<NodeStatus['stored']> {
  return { quota: quotas.get(owner) ?? null, used: services?.replica.quotas.used(owner) ?? null }
}

/** The node's numbers in `GET /metrics`. */
export function metricsOf(node: RunningNode, calls: TokenCalls): NodeNumbers {
  const { config, events, health, keyring, ownersHash, services } = node
  const { replica, wrappedKeys } = services ?? {}
  return {
    revision: replica?.applied ?? 0,
    head: replica?.head ?? 0,
    ...(replica?.contents ?? { mappings: 0, secrets: 0, secretVersions: 0 }),
    ...(replica?.counts ?? { segments: 0, ignoredDuplicates: 0, foreignKeys: 0 }),
    eventsDropped: events.dropped,
    ready: notReady(node, false).length === 0,
    quorum: health.quorum,
    leader: health.leader,
    members: health.members,
    ledgerUsed: health.used,
    fieldMatches: config.fields.map((field, i) => [field, calls.fieldMatches[i]]),
    records: calls.records,
    owners: ownersHash,
    rootKeys: keyring.ids.map((id) => ({ id, active: id === keyring.active })),
    wrappedKeys: wrappedKeys?.counts() ?? new Map(),
    genesis: replica?.state.genesisRevision ?? 0,
  }
}
