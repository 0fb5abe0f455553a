// The service of tokens: tokenize, detokenize, retokenize, rotate, epochs.
import { assert } from '../assert.ts'
import type { Clock, Deadline } from '../clock.ts'
import { TYPE, type Values } from '../crypto/canonical.ts'
import type { EpochKey } from '../crypto/epoch-key.ts'
import type { Keyring } from '../crypto/keyring.ts'
import { readTokenText } from '../crypto/token.ts'
import { asReached, checkTime } from '../replica/commit.ts'
import type { Replica } from '../replica/replica.ts'
import { FairTurns } from '../waiting.ts'
import { Detokenizer, type NamedTokens, type ResolvedTokens, type RoomForValues } from './detokenize.ts'
import { type EpochList, Epochs, type Rotation } from './epochs.ts'
import { EpochMoved, Issuer } from './issue.ts'
import { turnEnd, VALUES_A_TURN } from './turns.ts'

/** Bytes of a token's text with an epoch of 1 digit and of 10 digits (crypto/token.ts). */
const LEAST_TEXT_BYTES = 38
const MOST_TEXT_BYTES = 47

/** Tokens of one epoch: body i at 16 * i of `bodies`, its check the first 4 bytes at 16 * i of `checks`. */
export type Tokens = { readonly epoch: number; readonly bodies: Uint8Array; readonly checks: Uint8Array }

/**
 * The least time for a ledger with quorum after a large request has waited for its turns here: a busy node is
 * not a ledger without quorum.
 */
export const LEDGER_MS = 1500

/** The owner that asks, and the deadline of the request. */
export type TokenRequest = { readonly owner: string; readonly deadline: Deadline }

/**
 * Called with the active epoch, before tokens are stored under the epoch: again where the epoch is closed
 * meanwhile. Throws where there is no room for the answer under the epoch.
 */
export type RoomUnder = (epoch: number) => void

/** `found` is called with the index of the tokens found, before tokens are stored. */
type RetokenizeWatch = { readonly room?: RoomForValues; readonly found?: (index: Int32Array) => RoomUnder }

/** A string among the values is a valid token of the caller already. */
export class AlreadyToken extends Error {
  override readonly name = 'AlreadyToken'
  /** Index among the values. */
  readonly index: number
  constructor(index: number) {
    super('the value is a token already')
    this.index = index
  }
}

export class TokenService {
  readonly #replica: Replica
  readonly #epochs: Epochs
  readonly #issuer: Issuer
  readonly #detokenizer: Detokenizer
  readonly #turns = new FairTurns()

  constructor(replica: Replica, keyring: () => Keyring, clock: Clock) {
    this.#replica = replica
    this.#epochs = new Epochs(replica, keyring, clock)
    this.#issuer = new Issuer(replica)
    this.#detokenizer = new Detokenizer(replica, this.#epochs, this.#turns)
  }

  /**
   * Tokens of all values under one epoch that was active between the call and its answer; each mapping is
   * acknowledged by then. Throws AlreadyToken (unless `allowTokens`), Problem (quota-exceeded, and those of
   * `Epochs.active`), LedgerUnavailable, UnknownOutcome; errors of `room`.
   */
  async tokenize(
    request: TokenRequest,
    values: Values,
    allowTokens: boolean,
    room: RoomUnder = () => undefined,
  ): Promise<Tokens & { readonly fresh: number }> {
    const { owner, deadline } = request
    if (!allowTokens) await this.#refuseTokens(request, values)
    /** Whether some mappings may be in the ledger, under an epoch that was closed meanwhile. */
    let reached = false
    for (let least = 1; ; ) {
      try {
        const { key, revision } = await this.#epochs.active(request)
        assert(key.epoch >= least, 'the active epoch is never lower than before')
        least = key.epoch
        room(key.epoch)
        const bodies = await this.#bodies(key, values)
        assert(bodies.length === values.count * 16, 'every value has one token body')
        const time = takesTurns(values) ? deadline.atLeast(LEDGER_MS) : deadline
        const asked = { values, bodies, deadline: time }
        let issued = this.#issuer.issue(key, revision, asked)
        if (!issued) {
          await this.#replica.barrier(time)
          if (this.#replica.owner(owner)?.revision !== revision) continue
          issued = this.#issuer.issue(key, revision, asked)
          if (!issued) throw this.#replica.quotas.exceeded(owner)
        }
        const { acknowledged, proves, fresh } = issued
        const there = await acknowledged.then(() => true, falseIfMoved)
        reached ||= fresh > 0
        if (there && !proves) await this.#replica.barrier(time)
        if (there && (proves || this.#replica.owner(owner)?.revision === revision))
          return { epoch: key.epoch, bodies, checks: key.checkBlocks(bodies, values.count), fresh }
        checkTime(deadline) // the new epoch has been applied here: again
      } catch (error) {
        throw reached ? asReached(error) : error
      }
    }
  }

  /** As `Detokenizer.detokenize`. */
  detokenize(
    request: TokenRequest,
    tokens: NamedTokens,
    room: RoomForValues = () => undefined,
  ): Promise<ResolvedTokens> {
    return this.#detokenizer.detokenize(request, tokens, room)
  }

  /**
   * Tokens of the same values under the active epoch. `index` as in `ResolvedTokens`, into the tokens. Throws
   * as `detokenize` and `tokenize`; errors of `watch`, and then nothing is stored.
   */
  async retokenize(
    request: TokenRequest,
    named: NamedTokens,
    watch: RetokenizeWatch = {},
  ): Promise<Tokens & { index: Int32Array; fresh: number }> {
    const { values, index } = await this.detokenize(request, named, watch.room)
    const room = watch.found?.(index)
    return { ...(await this.tokenize(request, values, true, room)), index }
  }

  /** As `Epochs.rotate`. */
  rotate(request: TokenRequest, to: number): Promise<Rotation> {
    return this.#epochs.rotate(request, to)
  }

  /** As `Epochs.openFirst`. */
  openFirst(request: TokenRequest): Promise<void> {
    return this.#epochs.openFirst(request)
  }

  /** As `Epochs.list`. */
  epochs(request: TokenRequest): Promise<EpochList> {
    return this.#epochs.list(request)
  }

  async #bodies(key: EpochKey, values: Values): Promise<Uint8Array> {
    if (!takesTurns(values)) return key.bodies(values)
    let to = 0
    const out = new Uint8Array(values.count * 16)
    for (let from = 0; from < values.count; from = to) {
      await this.#turns.next(key.owner)
      to = turnEnd(values, from)
      key.bodiesOf(values, from, to, out)
    }
    return out
  }

  /** Throws AlreadyToken for the first string that is a valid token of this owner. */
  async #refuseTokens(request: TokenRequest, values: Values): Promise<void> {
    const { bytes, length } = values
    const known = this.#epochs.known(request)
    const body = new Uint8Array(16)
    const check = new Uint8Array(4)
    const valid = new Uint8Array(1)
    let computed = 0
    for (let i = 0; i < values.count; i++) {
      const at = values.offset[i] * 8
      if (bytes[at] !== TYPE.string || bytes[at + 1] !== 0x74) continue // a token begins with `t`
      const textBytes = length[i] - 1
      if (textBytes < LEAST_TEXT_BYTES || textBytes > MOST_TEXT_BYTES) continue
      const epoch = readTokenText(bytes, at + 1, at + length[i], body, check, 0)
      if (epoch === 0) continue
      if (++computed % VALUES_A_TURN === 0) await this.#turns.next(request.owner)
      if (!(await known(epoch))) continue
      const key = await this.#epochs.key(request, epoch)
      key.verifyChecks(body, check, 1, valid)
      if (valid[0] === 1) throw new AlreadyToken(i)
    }
  }
}

/** Whether the tokens are computed in several turns of the event loop. */
function takesTurns(values: Values): boolean {
  return turnEnd(values, 0) < values.count
}

/** False for a closed epoch: tokenize starts again at the new one. Throws every other error. */
function falseIfMoved(error: unknown): false {
  if (error instanceof EpochMoved) return false
  throw error
}
