// Detokenize: checks, look-up in the token table, a barrier where a token is missing, then sealed values are
// fetched and opened all at once.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { Values } from '../crypto/canonical.ts'
import type { EpochKey } from '../crypto/epoch-key.ts'
import { MAX_EPOCH } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import type { Replica } from '../replica/replica.ts'
import { lastFound, WARM_BODIES } from '../replica/table.ts'
import type { FairTurns } from '../waiting.ts'
import type { Epochs } from './epochs.ts'
import { UNITS_A_TURN, VALUES_A_TURN } from './turns.ts'

/** Requests up to this count are opened without a wait for a turn. */
const SMALL_COUNT = VALUES_A_TURN / 20

/** In place of an epoch: a place without a token, such as null, which is never "not found". */
export const NO_TOKEN = -1

/**
 * Tokens as a caller named them: epoch 0 where the text is not of a token's form, or NO_TOKEN. Checks are 4
 * bytes each.
 */
export type NamedTokens = {
  readonly count: number
  readonly epochs: Float64Array
  readonly bodies: Uint8Array
  readonly checks: Uint8Array
}

/** Value `index[i]` of `values` belongs to token i; -1: the token was not found, or there is none. */
export type ResolvedTokens = { readonly values: Values; readonly index: Int32Array }

/**
 * Called with the bytes of the values opened so far, padding left out. Throws Problem where there is no room
 * for so many: one token a hundred thousand times is a small request.
 */
export type RoomForValues = (bytes: number) => void

/** Values opened so far, their bytes, and the deadline of the request. */
type OpenedValues = {
  readonly values: Values
  readonly index: Int32Array
  bytes: number
  readonly room: RoomForValues
  readonly deadline: Deadline
}

/** As `TokenRequest` of tokens.ts. */
type DetokenizeRequest = { readonly owner: string; readonly deadline: Deadline }

/** The tokens of an epoch: token i stands at `index[i]` of the request. */
type EpochTokens = {
  readonly count: number
  readonly index: Int32Array
  readonly bodies: Uint8Array
  readonly checks: Uint8Array
}

/**
 * Page and slot of each token, slot -1 where the token was not found. `from` to `to` (exclusive) are opened
 * next.
 */
type Mappings = {
  readonly pages: Uint32Array
  readonly slots: Int32Array
  readonly from: number
  readonly to: number
}

export class Detokenizer {
  readonly #replica: Replica
  readonly #epochs: Epochs
  readonly #turns: FairTurns

  constructor(replica: Replica, epochs: Epochs, turns: FairTurns) {
    this.#replica = replica
    this.#epochs = epochs
    this.#turns = turns
  }

  /**
   * The values of the tokens, each in its canonical form. Throws Problem, LedgerUnavailable; errors of
   * `room`.
   */
  async detokenize(
    request: DetokenizeRequest,
    tokens: NamedTokens,
    room: RoomForValues,
  ): Promise<ResolvedTokens> {
    const { deadline } = request
    const index = new Int32Array(tokens.count).fill(-1)
    const values = new Values(tokens.count, tokens.count * 16)
    const opened = { values, index, bytes: 0, room, deadline }
    const known = this.#epochs.known(request)
    for (const epoch of new Set(tokens.epochs)) {
      if (epoch < 1 || epoch > MAX_EPOCH || !(await known(epoch))) continue
      await this.#resolve(await this.#epochs.key(request, epoch), tokens, opened)
    }
    let [missing, none] = [0, 0]
    for (let i = 0; i < index.length; i++) {
      if (tokens.epochs[i] === NO_TOKEN) none++
      else if (index[i] < 0) missing++
    }
    assert(values.count + missing + none === tokens.count, 'a token has one value or is missing')
    if (missing > 0) this.#replica.checkAbsence()
    return { values, index }
  }

  async #resolve(key: EpochKey, tokens: NamedTokens, opened: OpenedValues): Promise<void> {
    const mine = tokensOf(tokens, key.epoch)
    const valid = new Uint8Array(mine.count)
    key.verifyChecks(mine.bodies, mine.checks, mine.count, valid)
    const words = new Uint32Array(mine.bodies.buffer, mine.bodies.byteOffset, mine.count * 4)
    const pages = new Uint32Array(mine.count)
    const slots = new Int32Array(mine.count).fill(-1)
    if (this.#find(key, words, valid, pages, slots) > 0) {
      await this.#replica.barrier(opened.deadline)
      this.#find(key, words, valid, pages, slots)
    }
    for (let from = 0; from < mine.count; ) {
      if (from > 0 || mine.count > SMALL_COUNT) await this.#turns.next(key.owner)
      const to = Math.min(mine.count, from + VALUES_A_TURN)
      const end = this.#open(key, mine, { pages, slots, from, to }, opened)
      assert(end > from, 'every turn opens at least one token')
      from = end
    }
  }

  /**
   * Finds page and slot of valid tokens not found before. Returns how many valid tokens are still missing.
   */
  #find(key: EpochKey, words: Uint32Array, valid: Uint8Array, pages: Uint32Array, slots: Int32Array): number {
    const table = this.#replica.tokens(key.owner, key.epoch)
    let missing = 0
    for (let i = 0; i < valid.length; i++) {
      if (i % WARM_BODIES === 0) table?.warm(words, i)
      if (valid[i] === 0 || slots[i] >= 0) continue
      if (table?.find(words, i * 4)) {
        pages[i] = lastFound.page
        slots[i] = lastFound.slot
      } else missing++
    }
    return missing
  }

  /**
   * Fetches sealed values, as many as a turn may take, then opens all of them at once. Returns the next
   * index.
   */
  #open(key: EpochKey, mine: EpochTokens, mappings: Mappings, opened: OpenedValues): number {
    const { from, to, pages, slots } = mappings
    const reader = this.#replica.reader()
    const chunk = new Values(to - from, (to - from) * 16)
    const sizes = new Uint32Array(to - from)
    const bodies = new Uint8Array((to - from) * 16)
    /** Index among `mine` of each value in the chunk. */
    const tokens = new Int32Array(to - from)
    let i = from
    for (; i < to && chunk.used < UNITS_A_TURN; i++) {
      if (slots[i] < 0) continue
      const size = reader.seek(pages[i], slots[i])
      if (size === 0) {
        // A tombstone may have come since the token was found: the token is missing.
        if (this.#replica.isDropped(key.owner, key.epoch)) continue
        this.#damaged(pages[i])
      }
      // Padding and type are not in the answer; quotes and commas are.
      opened.bytes += (size - 1) * 8
      const n = chunk.count
      const at = chunk.pushRoom(size)
      reader.copy(chunk.bytes, at, size)
      sizes[n] = size
      for (let j = 0; j < 16; j++) bodies[n * 16 + j] = mine.bodies[i * 16 + j]
      tokens[n] = i
    }
    opened.room(opened.bytes)
    if (key.open(chunk, sizes, bodies) !== chunk.count) {
      for (let n = 0; n < chunk.count; n++) if (chunk.length[n] === 0) this.#damaged(pages[tokens[n]])
    }
    const first = opened.values.append(chunk)
    for (let n = 0; n < chunk.count; n++) opened.index[mine.index[tokens[n]]] = first + n
    return i
  }

  /**
   * For a stored value that does not open. A damaged page ends the node, and the replica is rebuilt; a whole
   * page means that the value was sealed wrongly. Throws DamagedReplica, Problem internal.
   */
  #damaged(page: number): never {
    this.#replica.checkPage(page)
    throw new Problem('internal', 'a stored value is not authentic')
  }
}

/** The tokens of an epoch: mostly all tokens of the request, and then nothing is copied. */
function tokensOf(tokens: NamedTokens, epoch: number): EpochTokens {
  const index = new Int32Array(tokens.count)
  let count = 0
  for (let i = 0; i < tokens.count; i++) if (tokens.epochs[i] === epoch) index[count++] = i
  assert(count > 0, 'an epoch is resolved for the tokens that name it')
  if (count === tokens.count) return { count, index, bodies: tokens.bodies, checks: tokens.checks }
  const bodies = new Uint8Array(count * 16)
  const checks = new Uint8Array(count * 4)
  for (let i = 0; i < count; i++) {
    bodies.set(tokens.bodies.subarray(index[i] * 16, index[i] * 16 + 16), i * 16)
    checks.set(tokens.checks.subarray(index[i] * 4, index[i] * 4 + 4), i * 4)
  }
  return { count, index, bodies, checks }
}
