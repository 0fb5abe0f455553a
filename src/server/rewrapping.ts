// Rewrapping all keys of the ledger, within the room of the ledger: every version of a secret is put again,
// and the earlier put stays in an etcd until the history is compacted. A rewrap alone must not fill the
// ledger so far that new tokens are refused.
import { FILLING } from '../ledger/ledger.ts'
import { sleep } from '../waiting.ts'
import type { RunningNode } from './running-node.ts'
import type { NodeServices } from './services.ts'

/** Bytes put between two looks at the ledger's room. */
const LOOK_BYTES = 8 * 1024 * 1024
const ROOM_POLL_MS = 1000

/**
 * Throws UnwrapError, LedgerUnavailable, UnknownOutcome, OperatorError, and the reason of `signal`; another
 * call continues with the keys that are left.
 */
export async function rewrapAll(
  node: RunningNode,
  services: NodeServices,
  signal: AbortSignal,
): Promise<void> {
  const result = await services.rewrap({ signal, room: roomIn(node, signal) })
  node.log.info(result, 'keys wrapped by the active root key')
}

/** As `RewrapOptions.room`: waits while FILLING or more of the ledger's room is occupied. */
function roomIn({ ledger, log }: RunningNode, signal: AbortSignal): (bytes: number) => Promise<void> {
  let unseen = LOOK_BYTES // the first call looks
  return async (bytes) => {
    unseen += bytes
    if (unseen < LOOK_BYTES) return
    unseen = 0
    for (let told = false; ; told = true) {
      const { occupied } = await ledger.health()
      if (occupied < FILLING || signal.aborted) return
      if (!told)
        log.warn({ occupied }, 'rewrapping waits for room: it goes on once etcd has compacted its history')
      await sleep(ROOM_POLL_MS, signal)
    }
  }
}
