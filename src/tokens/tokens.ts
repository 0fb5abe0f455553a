// Tokenize, detokenize, retokenize, rotate, epochs: what an owner can ask of tokens.
import type { Clock } from '../clock.ts'
import { TYPE, units, Values } from '../crypto/canonical.ts'
import { EpochKey, ROOT_BYTES } from '../crypto/epoch-key.ts'
import { type Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { MAX_EPOCH, readTokenText } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import { asReached, type Replica } from '../replica/replica.ts'
import { lastFound } from '../replica/table.ts'
import { encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { nextTurn } from '../waiting.ts'
import { EpochMoved, Issuer } from './issue.ts'

/** Values whose tokens are computed in one turn of the event loop (about 1 µs each with all that follows). */
const CHUNK = 20_000
/** The same in units of 8 bytes: long values cost by their length, about 10 µs a KiB. */
const CHUNK_UNITS = (4 * 1024 * 1024) / 8
const CACHED_KEYS = 4096

/** Tokens of one epoch: body i at 16 * i of `bodies`, its check the first 4 bytes at 16 * i of `checks`. */
export type Tokens = { readonly epoch: number; readonly bodies: Uint8Array; readonly checks: Uint8Array }

/** Tokens as a caller named them: epoch 0 where the text is not of a token's form. Checks are 4 bytes each. */
export type NamedTokens = {
  readonly count: number
  readonly epochs: Float64Array
  readonly bodies: Uint8Array
  readonly checks: Uint8Array
}

/** Value `index[i]` of `values` belongs to token i; -1 where it was not found. */
export type Resolved = { readonly values: Values; readonly index: Int32Array; readonly missing: number }

export type EpochInfo = {
  readonly epoch: number
  readonly opened_at: string
  readonly closed_at: string | null
  readonly tokens: number
}

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
  readonly #keyring: () => Keyring
  readonly #clock: Clock
  readonly #issuer: Issuer
  readonly #keys = new Map<string, EpochKey>()
  #turn: Promise<void> = Promise.resolve()

  constructor(replica: Replica, keyring: () => Keyring, clock: Clock) {
    this.#replica = replica
    this.#keyring = keyring
    this.#clock = clock
    this.#issuer = new Issuer(replica)
  }

  /**
   * Tokens of all values under one epoch that was active between the call and its answer; each mapping is
   * acknowledged by then. Throws AlreadyToken (unless `allowTokens`), Problem, LedgerUnavailable, UnknownOutcome.
   */
  async tokenize(
    owner: string,
    values: Values,
    allowTokens: boolean,
  ): Promise<Tokens & { readonly fresh: number }> {
    if (!allowTokens) await this.#refuseTokens(owner, values)
    /** Some of the mappings may be in the ledger, under an epoch that was closed meanwhile. */
    let reached = false
    for (;;) {
      const active = await this.#active(owner)
      const { key, revision } = active
      const bodies = await this.#bodies(key, values)
      const { acknowledged, proves, fresh } = this.#issuer.issue(key, revision, values, bodies)
      try {
        const there = await acknowledged.then(() => true, onlyMoved)
        reached ||= fresh > 0
        if (!there || !proves) await this.#replica.barrier()
        if (!there || (!proves && this.#replica.owner(owner)?.revision !== revision)) continue
      } catch (error) {
        throw reached ? asReached(error) : error
      }
      return { epoch: key.epoch, bodies, checks: key.checkBlocks(bodies, values.count), fresh }
    }
  }

  /**
   * The values of the tokens, each in its canonical form. Throws Problem, LedgerUnavailable; Problem answer-too-large
   * as soon as the values alone are more than `mostBytes`: one token a hundred thousand times is a small request.
   */
  async detokenize(
    owner: string,
    tokens: NamedTokens,
    mostBytes = Number.POSITIVE_INFINITY,
  ): Promise<Resolved> {
    const index = new Int32Array(tokens.count).fill(-1)
    const values = new Values(tokens.count, tokens.count * 16)
    const into = { values, index, room: mostBytes }
    const known = this.#knownEpochs(owner)
    for (const epoch of new Set(tokens.epochs)) {
      if (epoch < 1 || epoch > MAX_EPOCH || !(await known(epoch))) continue
      await this.#resolve(this.#key(owner, epoch), tokens, into)
    }
    let missing = 0
    for (let i = 0; i < index.length; i++) if (index[i] < 0) missing++
    return { values, index, missing }
  }

  /** Same values under the active epoch. `index` as in `Resolved`, into the tokens. */
  async retokenize(
    owner: string,
    named: NamedTokens,
    mostBytes = Number.POSITIVE_INFINITY,
  ): Promise<Tokens & { index: Int32Array; missing: number; fresh: number }> {
    const { values, index, missing } = await this.detokenize(owner, named, mostBytes)
    return { ...(await this.tokenize(owner, values, true)), index, missing }
  }

  /** Opens epoch `to` where it is the active one plus one; `to` = active is the safe retry. */
  async rotate(owner: string, to: number): Promise<{ epoch: number; rotated: boolean; revision: number }> {
    for (;;) {
      await this.#replica.barrier()
      const state = this.#replica.owner(owner)
      const active = state?.active ?? 0
      if (state && to === active) return { epoch: active, rotated: false, revision: state.revision }
      if (to !== active + 1) {
        throw new Problem(
          'epoch-conflict',
          `the active epoch is ${active}: only ${active + 1} can be opened`,
          { epoch: active },
        )
      }
      const revision = await this.#open(owner, to, state?.revision ?? 0)
      if (revision > 0) return { epoch: to, rotated: true, revision }
    }
  }

  /** Opens epoch 1 of the owner, unless somebody did. */
  async openFirst(owner: string): Promise<void> {
    if (this.#replica.owner(owner)?.active) return
    await this.#open(owner, 1, 0)
  }

  /** Returns the revision, or 0 where another was first. */
  async #open(owner: string, epoch: number, guard: number): Promise<number> {
    const root = this.#clock.random(ROOT_BYTES)
    const before = this.#replica.owner(owner)?.keys.get(epoch - 1)?.openedAt
    const now = Math.max(this.#clock.now(), before ? Date.parse(before) : 0)
    const writer = this.#replica.nextWriter()
    const key = ledgerKey.wrappedKey(owner, epoch)
    const wrapped = this.#keyring().wrap(root, ['epoch', owner, String(epoch)], this.#clock)
    const openedAt = new Date(now).toISOString()
    const result = await this.#replica.commit(
      {
        if: [
          { key: ledgerKey.epoch(owner), revision: guard },
          { key, revision: 0 },
        ],
        put: [
          {
            key: ledgerKey.epoch(owner),
            value: encodeEntry({ kind: 'epoch', owner, active: epoch }, writer),
          },
          { key, value: encodeEntry({ kind: 'key', owner, epoch, wrapped, openedAt }, writer) },
        ],
      },
      key,
    )
    return result.ok ? result.revision : 0
  }

  async epochs(owner: string): Promise<{ active: number; epochs: EpochInfo[] }> {
    await this.#replica.barrier()
    const state = this.#replica.owner(owner)
    const epochs: EpochInfo[] = []
    for (let epoch = 1; epoch <= (state?.active ?? 0); epoch++) {
      epochs.push({
        epoch,
        opened_at: state?.keys.get(epoch)?.openedAt ?? '',
        closed_at: state?.keys.get(epoch + 1)?.openedAt ?? null,
        tokens: this.#replica.tokens(owner, epoch)?.count ?? 0,
      })
    }
    return { active: state?.active ?? 0, epochs }
  }

  /** For one request: whether the owner has an epoch. The ledger is asked once, however many are not here. */
  #knownEpochs(owner: string): (epoch: number) => Promise<boolean> {
    let barrier: Promise<void> | undefined
    return async (epoch) => {
      if (this.#replica.owner(owner)?.keys.has(epoch)) return true
      barrier ??= this.#replica.barrier()
      await barrier
      return this.#replica.owner(owner)?.keys.has(epoch) ?? false
    }
  }

  async #active(owner: string): Promise<{ key: EpochKey; revision: number }> {
    if (!this.#replica.owner(owner)?.active) await this.#replica.barrier()
    const state = this.#replica.owner(owner)
    if (!state?.active)
      throw new Problem('not-ready', 'the first epoch of this owner is not open yet', {
        reasons: ['epoch 1 is not open'],
      })
    return { key: this.#key(owner, state.active), revision: state.revision }
  }

  /** The epoch's keys; few are kept, the least recently used go first. */
  #key(owner: string, epoch: number): EpochKey {
    const name = `${owner}@${epoch}`
    let key = this.#keys.get(name)
    if (key) this.#keys.delete(name)
    else {
      const entry = this.#replica.owner(owner)?.keys.get(epoch)
      if (!entry) throw new Problem('internal', `the key of epoch ${epoch} is not in the ledger`)
      try {
        key = new EpochKey(
          owner,
          epoch,
          this.#keyring().unwrap(entry.wrapped, ['epoch', owner, String(epoch)]),
        )
      } catch (error) {
        if (!(error instanceof UnknownRootKey)) throw error
        throw new Problem('unknown-root-key', `epoch ${epoch} is wrapped by a root key that this node lacks`)
      }
      const [oldest] = this.#keys.keys()
      if (this.#keys.size >= CACHED_KEYS && oldest !== undefined) this.#keys.delete(oldest)
    }
    this.#keys.set(name, key)
    return key
  }

  /** A turn of the event loop for each of those that ask, not one for all of them: sockets are read in between. */
  #nextTurn(): Promise<void> {
    this.#turn = this.#turn.then(nextTurn)
    return this.#turn
  }

  async #bodies(key: EpochKey, values: Values): Promise<Uint8Array> {
    let to = turnEnd(values, 0)
    if (to === values.count) return key.bodies(values)
    const out = new Uint8Array(values.count * 16)
    for (let from = 0; from < values.count; from = to) {
      await this.#nextTurn()
      to = turnEnd(values, from)
      key.bodiesOf(values, from, to, out)
    }
    return out
  }

  /** Throws AlreadyToken for the first string that is a valid token of this owner. */
  async #refuseTokens(owner: string, values: Values): Promise<void> {
    const { bytes } = values
    const known = this.#knownEpochs(owner)
    const body = new Uint8Array(16)
    const check = new Uint8Array(4)
    const valid = new Uint8Array(1)
    for (let i = 0; i < values.count; i++) {
      const at = values.offset[i] * 8
      if (
        bytes[at] !== TYPE.string ||
        bytes[at + 1] !== 0x74 ||
        values.length[i] < 39 ||
        values.length[i] > 48
      )
        continue
      const epoch = readTokenText(bytes, at + 1, at + values.length[i], body, check, 0)
      if (epoch === 0) continue
      if (!(await known(epoch))) continue
      this.#key(owner, epoch).verifyChecks(body, check, 1, valid)
      if (valid[0] === 1) throw new AlreadyToken(i)
    }
  }

  async #resolve(key: EpochKey, tokens: NamedTokens, into: Into): Promise<void> {
    const mine = pick(tokens, key.epoch)
    const valid = new Uint8Array(mine.count)
    key.verifyChecks(mine.bodies, mine.checks, mine.count, valid)
    const words = new Uint32Array(mine.bodies.buffer, mine.bodies.byteOffset, mine.count * 4)
    const pages = new Uint32Array(mine.count)
    const slots = new Int32Array(mine.count).fill(-1)
    if (this.#look(key, words, valid, pages, slots) > 0) {
      await this.#replica.barrier()
      this.#look(key, words, valid, pages, slots)
    }
    for (let from = 0; from < mine.count; ) {
      if (from > 0 || mine.count > CHUNK / 20) await this.#nextTurn()
      from = this.#openSome(key, mine, { pages, slots, from, to: Math.min(mine.count, from + CHUNK) }, into)
    }
  }

  /** Finds the places of valid tokens that have none yet; returns how many are still without. */
  #look(key: EpochKey, words: Uint32Array, valid: Uint8Array, pages: Uint32Array, slots: Int32Array): number {
    const table = this.#replica.tokens(key.owner, key.epoch)
    table?.warm(words, valid.length)
    let missing = 0
    for (let i = 0; i < valid.length; i++) {
      if (valid[i] === 0 || slots[i] >= 0) continue
      if (table?.find(words, i * 4)) {
        pages[i] = lastFound.page
        slots[i] = lastFound.slot
      } else missing++
    }
    return missing
  }

  /** Fetches sealed values, as many as a turn may take, then opens them all at once. Returns where to go on. */
  #openSome(key: EpochKey, mine: Picked, found: Places, into: Into): number {
    const reader = this.#replica.reader()
    const chunk = new Values(found.to - found.from, (found.to - found.from) * 16)
    const sizes = new Uint32Array(found.to - found.from)
    const bodies = new Uint8Array((found.to - found.from) * 16)
    const owners = new Int32Array(found.to - found.from)
    let i = found.from
    for (; i < found.to && chunk.used < CHUNK_UNITS; i++) {
      if (found.slots[i] < 0) continue
      const size = reader.seek(found.pages[i], found.slots[i])
      if (size === 0) this.#damaged(found.pages[i])
      // Padding and type are not in the answer; quotes and commas are.
      into.room -= (size - 1) * 8
      if (into.room < 0) throw new Problem('answer-too-large', 'the values are more than an answer may hold')
      const n = chunk.count
      const at = chunk.pushRoom(size)
      reader.copy(chunk.bytes, at, size)
      sizes[n] = size
      for (let j = 0; j < 16; j++) bodies[n * 16 + j] = mine.bodies[i * 16 + j]
      owners[n] = i
    }
    if (key.open(chunk, sizes, bodies) !== chunk.count) {
      for (let n = 0; n < chunk.count; n++) if (chunk.length[n] === 0) this.#damaged(found.pages[owners[n]])
    }
    const first = into.values.append(chunk)
    for (let n = 0; n < chunk.count; n++) into.index[mine.index[owners[n]]] = first + n
    return i
  }

  /** A stored value does not open. A damaged page ends the node (the replica is rebuilt); else it was sealed so. */
  #damaged(page: number): never {
    this.#replica.checkPage(page)
    throw new Problem('internal', 'a stored value is not authentic')
  }
}

/** What is resolved so far, and the bytes that may still come. */
type Into = { readonly values: Values; readonly index: Int32Array; room: number }

/** A moved epoch means: not there, once more. Anything else is thrown. */
function onlyMoved(error: unknown): false {
  if (error instanceof EpochMoved) return false
  throw error
}

type Picked = {
  readonly count: number
  readonly index: Int32Array
  readonly bodies: Uint8Array
  readonly checks: Uint8Array
}
type Places = {
  readonly pages: Uint32Array
  readonly slots: Int32Array
  readonly from: number
  readonly to: number
}

/** The tokens of one epoch. Mostly all of them: then nothing is copied. */
function pick(tokens: NamedTokens, epoch: number): Picked {
  const index = new Int32Array(tokens.count)
  let count = 0
  for (let i = 0; i < tokens.count; i++) if (tokens.epochs[i] === epoch) index[count++] = i
  if (count === tokens.count) return { count, index, bodies: tokens.bodies, checks: tokens.checks }
  const bodies = new Uint8Array(count * 16)
  const checks = new Uint8Array(count * 4)
  for (let i = 0; i < count; i++) {
    bodies.set(tokens.bodies.subarray(index[i] * 16, index[i] * 16 + 16), i * 16)
    checks.set(tokens.checks.subarray(index[i] * 4, index[i] * 4 + 4), i * 4)
  }
  return { count, index, bodies, checks }
}

/** Where a turn that begins at value `from` ends. */
function turnEnd(values: Values, from: number): number {
  let to = from
  for (let used = 0; to < values.count && to - from < CHUNK && used < CHUNK_UNITS; to++) {
    used += units(values.length[to])
  }
  return to
}
