// From listening to ready: the replica is opened, recognizes its ledger and catches up, and the node
// announces its run. The steps are listed with their reasons in docs/architecture.md, "The start".
import { assert } from '../assert.ts'
import { Deadline } from '../clock.ts'
import type { EventLog } from '../events/log.ts'
import { LedgerUnavailable } from '../ledger/ledger.ts'
import type { Replica, ReplicaOptions } from '../replica/replica.ts'
import { announceAgain, commitBoot, openFirstEpochs, untilAccepted } from './announce.ts'
import { checkGenesis, keyringMismatch, openReplica, removeSetAside, StartError } from './open.ts'
import type { Probe } from './probe.ts'
import type { RunningNode } from './running-node.ts'
import { makeServices, type NodeServices, sweepReceipts } from './services.ts'

/**
 * Resolves when requests are served fully. Throws StartError where the node cannot serve its ledger, and
 * LedgerUnavailable `closed` where the node is stopped before.
 */
export async function becomeReady(
  node: RunningNode,
  { probe, url }: { readonly probe: Probe; readonly url: string },
): Promise<void> {
  const { config, events, log, closers } = node
  const started = performance.now()
  const { replica, setAside } = await openReplica(node, replicaOptions(node))
  closers.push(() => replica.close())
  const services = makeServices(replica, () => node.keyring, node.clock)

  // A replica with a history recognizes its ledger itself, and is served before the ledger is reached. A new
  // replica needs the genesis first.
  node.waitingFor = 'the ledger is asked'
  if (replica.identity === undefined) await untilAccepted(node, () => checkGenesis(node))
  serve(node, services)

  replica.follow()
  await untilAccepted(node, () => catchUp(node, replica))
  assert(replica.state.genesis, 'a replica that has caught up has applied the genesis')
  serve(node, services) // again: the genesis of a new replica is known only now
  events.emit('ledger.connected', { reason: config.ledger.kind })
  if (setAside !== undefined) {
    const ms = Math.round(performance.now() - started)
    events.emit('replica.rebuilt', { revision: replica.applied, ms, reason: setAside })
  }
  removeOldReplicas(node)

  const { owners, keyring } = node
  await untilAccepted(node, async () => {
    await commitBoot(node, replica)
    await openFirstEpochs(services, node.clock, node.owners)
  })
  await probe.run()
  node.waitingFor = ''
  events.emit('node.ready', { revision: replica.applied })
  log.info({ url, revision: replica.applied }, 'ready')
  closers.push(sweepReceipts(services, node))
  closers.push(() => node.background.close())
  // A reload during the last steps has announced nothing itself, and those steps may have used the old
  // owners.
  if (node.owners !== owners || node.keyring !== keyring || node.keyring.rewrap) announceAgain(node)
}

/** Replicas that were set aside are of no use once a whole replica has caught up. */
function removeOldReplicas({ config, log }: RunningNode): void {
  try {
    const removed = removeSetAside(config)
    if (removed.length > 0) log.info({ removed }, 'the replica is whole; replicas set aside are removed')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    log.warn({ reason }, 'a replica set aside cannot be removed: remove it, or correct its owner and mode')
  }
}

/** Throws StartError where the keyring does not belong to the replica's ledger. */
function serve(node: RunningNode, services: NodeServices): void {
  const { genesis } = services.replica.state
  const mismatch = genesis && keyringMismatch(node.keyring, genesis)
  if (mismatch !== undefined) throw new StartError(mismatch)
  node.services = services
}

/** Waits for as long as catching up takes. */
async function catchUp(node: RunningNode, replica: Replica): Promise<void> {
  await replica.recognized
  const { mismatch } = replica
  if (mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', mismatch)
  const head = await node.ledger.head()
  node.waitingFor = 'the replica is catching up'
  await replica.waitApplied(head, Deadline.never)
}

function replicaOptions(node: RunningNode): Omit<ReplicaOptions, 'store'> {
  const { ledger, boot, clock, checkpointEvery, fail, events } = node
  const quotaOf = (owner: string): number | undefined => node.quotas.get(owner)
  return { ledger, boot, clock, quotaOf, checkpointEvery, fatal: fail, events: replicaEvents(events) }
}

/** Writes the replica's events to the event log. */
function replicaEvents(events: EventLog): ReplicaOptions['events'] {
  return {
    lost: (reason) => events.emit('ledger.lost', { reason }),
    recovered: () => events.emit('ledger.recovered'),
    caughtUp: (from, to, ms) => events.emit('replica.caught-up', { from, to, ms }),
    epoch: (owner, epoch, revision) => events.emit('epoch.observed', { owner, epoch, revision }),
    applied: (from, revision) => events.emit('replica.applied', { revision, from }),
  }
}
