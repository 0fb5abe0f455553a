// The parts of a running node, and the facts about the node subject to change. Each fact has a single writer,
// and many readers in the room.
import { type Clock, randomHex } from '../clock.ts'
import type { Keyring } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import type { EventLog } from '../events/log.ts'
import { ApiKeys } from '../http/auth.ts'
import type { Health, Ledger } from '../ledger/ledger.ts'
import type { Logger } from '../log.ts'
import type { Config } from '../node/config.ts'
import type { Member } from '../node/member.ts'
import type { FileCheck } from '../replica/check.ts'
import type { CleanStop } from '../replica/clean-stop.ts'
import { ownersHash } from './agreement.ts'
import { Background } from './background.ts'
import type { NodeServices } from './services.ts'

/** Closes a part. */
type Closer = () => Promise<void> | void

export type RunningNode = {
  /** The configuration at the start; owners may have been reloaded since. */
  readonly config: Config
  readonly clock: Clock
  readonly log: Logger
  readonly events: EventLog
  readonly ledger: Ledger
  /** What the last clean stop vouches for, and the next. */
  readonly cleanStop: CleanStop
  /** Begun before the ledger is opened. */
  readonly replicaCheck: Promise<FileCheck>
  /** The node's own etcd member; undefined where the configuration has none. */
  readonly member: Member | undefined
  /** Id of the node's run: 16 random bytes in hex. */
  readonly boot: string
  /** As `ReplicaOptions.checkpointEvery`. */
  readonly checkpointEvery: number | undefined
  /** How old the text of /metrics may be, in milliseconds; the default where undefined. */
  readonly metricsAgeMs: number | undefined
  /** API keys of the owners in force. */
  readonly apiKeys: ApiKeys
  /** A closer per open part, in the order of opening. */
  readonly closers: Closer[]
  /** Aborted when the node begins to stop, with LedgerUnavailable `closed` as the reason. */
  readonly stop: AbortController
  /** Ends the node with the error. */
  readonly fail: (error: Error) => void
  /** The work for the ledger after a reload. */
  readonly background: Background

  /** The owners in force. Replaced by `putOwners`. */
  owners: Config['owners']
  /** As `ownersHash` of the owners in force. */
  ownersHash: string
  /** Quotas of the owners in force, in bytes. */
  quotas: ReadonlyMap<string, number>
  /** The keyring in force. Replaced by a reload. */
  keyring: Keyring
  /** The ledger's health at the last probe. Replaced by the probe. */
  health: Health
  /** Undefined until the content of the replica can be served. Set by becomeReady. */
  services: NodeServices | undefined
  /** The step of the start in progress, a reason of /ready; '' once the node has become ready. */
  waitingFor: string
  /** True from the signal to stop; requests go on for `drain_seconds`. Set by stopNode. */
  stopping: boolean
}

/** The health of a ledger before the first probe. */
const UNKNOWN_HEALTH: Health = {
  problems: [],
  quorum: false,
  leader: undefined,
  members: [],
  used: 0,
  occupied: 0,
}

type OpenParts = Pick<
  RunningNode,
  | 'config'
  | 'clock'
  | 'log'
  | 'events'
  | 'ledger'
  | 'member'
  | 'cleanStop'
  | 'replicaCheck'
  | 'stop'
  | 'closers'
  | 'fail'
  | 'owners'
  | 'keyring'
  | 'checkpointEvery'
  | 'metricsAgeMs'
>

/** A node with its parts open, before its replica is open. */
export function runningNode(parts: OpenParts): RunningNode {
  const { clock, fail, owners } = parts
  return {
    ...parts,
    boot: randomHex(clock, 16),
    apiKeys: new ApiKeys(owners, clock),
    background: new Background((error) => fail(error as Error)), // all that is thrown is an Error
    ownersHash: ownersHash(owners),
    quotas: quotasOf(owners),
    health: UNKNOWN_HEALTH,
    services: undefined,
    waitingFor: 'the replica is being read',
    stopping: false,
  }
}

/** The message of an error for the log, with the next step where the error has a next step. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const hint = error instanceof OperatorError && error.hint !== undefined ? `: ${error.hint}` : ''
  return `${error.message}${hint}`
}

/** Puts owners into force. */
export function putOwners(node: RunningNode, owners: Config['owners']): void {
  node.apiKeys.replace(owners)
  node.owners = owners
  node.ownersHash = ownersHash(owners)
  node.quotas = quotasOf(owners)
}

function quotasOf(owners: Config['owners']): ReadonlyMap<string, number> {
  return new Map(owners.flatMap(({ id, quota }) => (quota === undefined ? [] : [[id, quota] as const])))
}

/** Closes in the reverse order of opening, and forgets the closers. */
export async function closeAll(closers: Closer[]): Promise<void> {
  for (const close of closers.splice(0).reverse()) await close()
}
