// Rewrapping all keys of the ledger, within the room of the ledger: every version of a secret is put again,
// and the earlier put stays in an etcd until the history is compacted. A rewrap alone must not fill the
// ledger so far that new tokens are refused; where live entries alone fill the ledger further, a rewrap must
// leave room for epochs and secrets.
import { Deadline } from '../clock.ts'
import { FILLING, FULL } from '../ledger/ledger.ts'
import { sleep } from '../waiting.ts'
import type { RunningNode } from './running-node.ts'
import type { NodeServices } from './services.ts'

/** Bytes put between two looks at the ledger's room. */
const LOOK_BYTES = 8 * 1024 * 1024
const ROOM_POLL_MS = 1000
/** With a compaction every hour etcd keeps no put replaced longer ago. */
const COMPACTED_MS = 3 * 60 * 60 * 1000
const WAITS = 'rewrapping waits for room: etcd must compact the history of the rewrap first'

/** As `RewrapOptions.room`. */
type Room = (bytes: number) => Promise<void>

type RewrapAllOptions = { readonly signal: AbortSignal; readonly room: Room }

/**
 * Throws UnwrapError, LedgerUnavailable, UnknownOutcome, OperatorError, and the reason of `signal`; another
 * call continues with the keys that are left.
 */
export async function rewrapAll(
  { log }: RunningNode,
  services: NodeServices,
  options: RewrapAllOptions,
): Promise<void> {
  const result = await services.rewrap(options)
  log.info(result, 'keys wrapped by the active root key')
}

/**
 * As `RewrapOptions.room`, for all tries of a rewrap: waits while the rewrap has filled the ledger up to a
 * limit. The limit depends on the part occupied at the first look: compaction frees replaced entries, never
 * live entries. Others may put live entries meanwhile: the limit is set anew after a long wait.
 */
export function roomIn(
  { ledger, log, clock }: Pick<RunningNode, 'ledger' | 'log' | 'clock'>,
  signal: AbortSignal,
): Room {
  let unseen = 0
  let limit: number | undefined
  return async (bytes) => {
    unseen += bytes
    if (bytes > 0 && unseen < LOOK_BYTES) return
    unseen = 0
    let compacted = new Deadline(clock, COMPACTED_MS)
    for (let told = false; ; told = true) {
      const { occupied } = await ledger.health()
      if (occupied === 0) return // no member has answered, or only the disk bounds the room
      if (limit === undefined || compacted.passed) {
        limit = limitFrom(occupied)
        compacted = new Deadline(clock, COMPACTED_MS)
      }
      if (occupied < limit || signal.aborted) return
      if (!told) log.warn({ occupied, limit }, WAITS)
      await sleep(ROOM_POLL_MS, signal)
    }
  }
}

/** Halfway to the part from which on new tokens or, in a fuller ledger, all commits are refused. */
function limitFrom(occupied: number): number {
  const refusing = occupied < FULL ? FULL : 1
  return Math.max(FILLING, (occupied + refusing) / 2)
}
