// The commits of a node at its start and after a reload: the boot entry, the node entry, and epoch 1 of every
// owner.
import { DRIVERS } from '../ledger/drivers.ts'
import { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import type { Replica } from '../replica/replica.ts'
import { encodeEntry, type NodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { retry, unlessAborted } from '../waiting.ts'
import { nodeEntry } from './agreement.ts'
import { StartError } from './open.ts'
import type { RunningNode } from './running-node.ts'
import type { NodeServices } from './services.ts'

const mismatchAdvice =
  'put that ledger back in its place, or run `coffer replica reset` to follow this ledger'
const RETRY_MS = 500
/** Owners whose first epoch is opened together. */
const OWNERS_AT_ONCE = 256

/**
 * Retries `work` until the ledger has accepted its commits; meanwhile known tokens are served, and /ready
 * reports the ledger's error. Throws StartError where a ledger in a file is not the ledger followed by the
 * replica, LedgerUnavailable `closed` when the node stops, and other errors of `work` at once.
 */
export function untilAccepted(node: RunningNode, work: () => Promise<void>): Promise<void> {
  return retry(() => unlessAborted(work(), node.stop.signal), {
    every: RETRY_MS,
    signal: node.stop.signal,
    when: (error) => mayBeAccepted(node, error),
  })
}

function mayBeAccepted(node: RunningNode, error: unknown): boolean {
  const unavailable = error instanceof LedgerUnavailable
  if (!unavailable && !(error instanceof UnknownOutcome)) return false
  if (unavailable && error.reason === 'closed') return false
  // A shared ledger may come back by itself. A file comes back only when the operator of the machine puts it
  // there.
  if (unavailable && error.reason === 'ledger-changed' && !DRIVERS[node.config.ledger.kind].shared)
    throw new StartError(`${error.message}: the replica followed another ledger`, { hint: mismatchAdvice })
  if (node.waitingFor !== '') node.waitingFor = error.message
  return true
}

/**
 * Commits the boot entry together with the node entry, and waits until the replica has applied both: only
 * then can the node compare its own entry with the entries of other nodes.
 */
export async function commitBoot({ boot, config, keyring }: RunningNode, replica: Replica): Promise<void> {
  const key = ledgerKey.boot(boot)
  const writer = replica.nextWriter()
  const put = [
    { key, value: encodeEntry({ kind: 'boot', boot, node: config.node }, writer) },
    { key: ledgerKey.node(config.node), value: encodeEntry(nodeEntry(config, keyring), writer) },
  ]
  // The boot is random, so a refusal can only mean the success of an earlier try.
  const { revision } = await replica.commit({ if: [{ key, revision: 0 }], put }, key)
  await replica.waitApplied(revision)
}

/** Announces reloaded owners and a reloaded keyring. */
export function announce(node: RunningNode, services: NodeServices): Promise<void> {
  const { config, keyring, owners } = node
  return untilAccepted(node, async () => {
    await putNodeEntry(services.replica, nodeEntry(config, keyring))
    await openFirstEpochs(services, owners)
  })
}

/**
 * Retries after a refusal: nodes put no entries of other nodes, so an earlier commit of the node was late.
 */
async function putNodeEntry(replica: Replica, entry: NodeEntry): Promise<void> {
  const key = ledgerKey.node(entry.node)
  for (let accepted = false; !accepted; ) {
    await replica.barrier()
    const value = encodeEntry(entry, replica.nextWriter())
    const revision = replica.state.nodeRevision(entry.node)
    accepted = (await replica.commit({ if: [{ key, revision }], put: [{ key, value }] }, key)).ok
  }
}

/** Opens epoch 1 of all owners without an epoch. */
export async function openFirstEpochs(
  { tokens }: NodeServices,
  owners: readonly { readonly id: string }[],
): Promise<void> {
  for (let i = 0; i < owners.length; i += OWNERS_AT_ONCE) {
    await Promise.all(owners.slice(i, i + OWNERS_AT_ONCE).map(({ id }) => tokens.openFirst(id)))
  }
}
