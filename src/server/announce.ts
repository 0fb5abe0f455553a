// The commits of a node at its start and after a reload: the boot entry, the node entry, epoch 1 of every
// owner, and keys wrapped anew.
import { type Clock, Deadline } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import type { Replica } from '../replica/replica.ts'
import { encodeEntry, type NodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { retry, unlessAborted } from '../waiting.ts'
import { nodeEntry } from './agreement.ts'
import { rewrapAll, roomIn } from './rewrapping.ts'
import { type RunningNode, reasonOf } from './running-node.ts'
import type { NodeServices } from './services.ts'

const CHANGED_ADVICE =
  'the replica followed another ledger: put that ledger back, or stop the node and run `coffer replica reset`'
const NOT_ANNOUNCED = 'owners and keyring are in force, and could not be announced'
const NOT_REWRAPPED = 'the rewrap has ended early: correct the fault and run `coffer keyring rewrap` again'
const RETRY_MS = 500
/** For one commit, until it is tried again. */
const COMMIT_MS = 4000
/** Owners whose first epoch is opened together. */
const OWNERS_AT_ONCE = 256

/**
 * Retries `work` until the ledger has accepted its commits; meanwhile known tokens are served, and /ready
 * reports the ledger's error. Throws the reason of `signal`, by default LedgerUnavailable `closed` when the
 * node stops, and other errors of `work` at once.
 */
export function untilAccepted(
  node: RunningNode,
  work: () => Promise<void>,
  signal: AbortSignal = node.stop.signal,
): Promise<void> {
  return retry(() => unlessAborted(work(), signal), {
    every: RETRY_MS,
    signal,
    when: (error) => mayBeAccepted(node, error),
  })
}

function mayBeAccepted(node: RunningNode, error: unknown): boolean {
  const unavailable = error instanceof LedgerUnavailable
  if (!unavailable && !(error instanceof UnknownOutcome)) return false
  if (unavailable && error.reason === 'closed') return false
  if (node.waitingFor === '' || node.waitingFor === error.message) return true
  node.waitingFor = error.message
  if (unavailable && error.reason === 'ledger-changed')
    node.log.error({ reason: error.message }, CHANGED_ADVICE)
  return true
}

/**
 * Commits the boot entry together with the node entry, and waits until the replica has applied both: only
 * then can the node compare its own entry with the entries of other nodes. A commit of an earlier run of the
 * node, however late, is refused from then on. Throws LedgerUnavailable where such a commit was first:
 * another try may help.
 */
export async function commitBoot(
  { boot, config, keyring, clock }: RunningNode,
  replica: Replica,
): Promise<void> {
  const deadline = new Deadline(clock, COMMIT_MS)
  await replica.barrier(deadline)
  const key = ledgerKey.boot(boot)
  const writer = replica.nextWriter()
  const node = { key: ledgerKey.node(config.node), revision: replica.state.nodeRevision(config.node) }
  const put = [
    { key, value: encodeEntry({ kind: 'boot', boot, node: config.node }, writer) },
    { key: node.key, value: encodeEntry(nodeEntry(config, keyring), writer) },
  ]
  const result = await replica.commit({ if: [{ key, revision: 0 }, node], put }, key, deadline)
  await replica.waitApplied(result.revision, Deadline.never)
  // The boot is random: where it is there, an earlier try has put it.
  if (!result.ok && !replica.state.boots.has(boot)) throw lateNodeEntry()
}

/**
 * Announces the owners and the keyring in force in the background, and rewraps where the keyring asks for a
 * rewrap. A later call supersedes the work, and each try takes what is in force then. Before the node is
 * ready the call does nothing: the start announces.
 */
export function announceAgain(node: RunningNode): void {
  const { services } = node
  if (!services || node.waitingFor !== '' || node.stop.signal.aborted) return
  node.background.run(async (signal) => {
    const announce = async (): Promise<void> => {
      const { config, clock, keyring, owners } = node
      await putNodeEntry(services.replica, nodeEntry(config, keyring), new Deadline(clock, COMMIT_MS))
      await openFirstEpochs(services, clock, owners)
    }
    const rewrap = async (): Promise<void> => {
      const options = { signal, room: roomIn(node, signal) }
      await untilAccepted(node, () => rewrapAll(node, services, options), signal)
    }
    let failed = NOT_ANNOUNCED
    try {
      await untilAccepted(node, announce, signal)
      failed = NOT_REWRAPPED
      if (node.keyring.rewrap) await rewrap()
    } catch (error) {
      if (signal.aborted || !(error instanceof OperatorError)) throw error
      node.log.error({ error: reasonOf(error) }, failed)
    }
  })
}

/**
 * Nodes put no entries of other nodes: a refusal means that an earlier commit of the node was late, and
 * another try may help. Throws LedgerUnavailable then.
 */
async function putNodeEntry(replica: Replica, entry: NodeEntry, deadline: Deadline): Promise<void> {
  const key = ledgerKey.node(entry.node)
  await replica.barrier(deadline)
  const value = encodeEntry(entry, replica.nextWriter())
  const revision = replica.state.nodeRevision(entry.node)
  const { ok } = await replica.commit({ if: [{ key, revision }], put: [{ key, value }] }, key, deadline)
  if (!ok) throw lateNodeEntry()
}

function lateNodeEntry(): LedgerUnavailable {
  return new LedgerUnavailable('no-quorum', 'an earlier commit of the node entry was late')
}

/** Opens epoch 1 of all owners without an epoch. */
export async function openFirstEpochs(
  { tokens }: NodeServices,
  clock: Clock,
  owners: readonly { readonly id: string }[],
): Promise<void> {
  for (let i = 0; i < owners.length; i += OWNERS_AT_ONCE) {
    const deadline = new Deadline(clock, COMMIT_MS)
    const some = owners.slice(i, i + OWNERS_AT_ONCE)
    await Promise.all(some.map(({ id }) => tokens.openFirst({ owner: id, deadline })))
  }
}
