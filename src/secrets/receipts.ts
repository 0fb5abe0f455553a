// Receipts: the result of a request with an Idempotency-Key. A receipt is put in the same commit as the
// effect of its request, under the guard of its absence: so of several requests under the same key, on any
// nodes, at most a single request has an effect.
import { createSecretKey, type KeyObject } from 'node:crypto'
import { assert } from '../assert.ts'
import { type Clock, Deadline } from '../clock.ts'
import { type Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { type AskedRequest, type AskedUnder, receiptHash, requestMac, sameMac } from '../crypto/receipt.ts'
import { Problem } from '../errors.ts'
import {
  type Found,
  type LedgerPut,
  LedgerUnavailable,
  type Replica,
  type StoredEntry,
} from '../replica/replica.ts'
import { decodeEntry, encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { Writer } from '../state/writer.ts'
import { nextTurn } from '../waiting.ts'

/** Callers are promised a day; receipts are kept longer, since clocks of nodes differ. */
export const KEPT_MS = 48 * 3600_000
/** Receipts removed in a single commit. An etcd with default settings takes 128 operations a Txn. */
const REMOVED_TOGETHER = 64
/** Receipts read in a turn of the event loop. */
const READ_A_TURN = 500
/** For the removal of some receipts. */
const REMOVE_MS = 4000

/** The effect of a write. Together with the request, the effect is enough to build the answer again. */
export type WriteResult = {
  readonly version: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
  /** Revision of the commit; 0 where an earlier request had the effect. */
  readonly revision: number
  /** Whether an earlier request under the same Idempotency-Key had the effect. */
  readonly replayed: boolean
}

/** A running request under an Idempotency-Key. */
export class Claim {
  /** Ledger key of the receipt. */
  readonly key: string
  readonly #owner: string
  readonly #hash: string
  readonly #mac: Uint8Array

  constructor(owner: string, hash: string, mac: Uint8Array) {
    this.#owner = owner
    this.#hash = hash
    this.#mac = mac
    this.key = ledgerKey.receipt(owner, hash)
  }

  /** The receipt, to be put by the commit that has the effect. */
  put(writer: Writer, version: number, validFrom: number, now: number): LedgerPut {
    const about = { owner: this.#owner, hash: this.#hash, mac: this.#mac }
    return {
      key: this.key,
      value: encodeEntry({ kind: 'receipt', ...about, at: now, version, validFrom }, writer),
    }
  }

  /**
   * The earlier success that refused a commit; undefined for other refusals. Throws Problem
   * idempotency-key-reused.
   */
  amongFound(found: readonly Found[]): WriteResult | undefined {
    const value = found.find(({ key }) => key === this.key)?.value
    return value ? this.read(value) : undefined
  }

  /**
   * Reads the receipt of the request. Throws Problem idempotency-key-reused for the receipt of another
   * request.
   */
  read(value: Uint8Array): WriteResult {
    const receipt = decodeEntry(this.key, value)
    if (receipt?.kind !== 'receipt' || !sameMac(receipt.mac, this.#mac))
      throw new Problem('idempotency-key-reused', 'this Idempotency-Key belongs to another request')
    const { version, validFrom } = receipt
    return { version, validFrom, revision: 0, replayed: true }
  }
}

/** The begin of a request under an Idempotency-Key: an earlier success, or a claim to go on. */
export type Begun =
  | { readonly kind: 'answered'; readonly written: WriteResult }
  | { readonly kind: 'claimed'; readonly claim: Claim }

export class Receipts {
  readonly #replica: Replica
  readonly #keyring: () => Keyring
  readonly #clock: Clock
  readonly #running = new Set<string>()
  #key: { readonly wrapped: Uint8Array; readonly key: KeyObject } | undefined

  constructor(replica: Replica, keyring: () => Keyring, clock: Clock) {
    this.#replica = replica
    this.#keyring = keyring
    this.#clock = clock
  }

  /**
   * Returns the success of an earlier request, or the claim under which the request goes on: put `claim` into
   * the commit, and call `settle` in the end, also after an error. Throws Problem idempotency-in-progress,
   * idempotency-key-reused, not-ready, unknown-root-key; LedgerUnavailable.
   */
  async begin(under: AskedUnder, request: AskedRequest, deadline: Deadline): Promise<Begun> {
    const key = await this.#replica.lookAgain(deadline, () => this.#macKey())
    const claim = new Claim(under.owner, receiptHash(key, under), requestMac(key, under, request))
    if (this.#running.has(claim.key))
      throw new Problem('idempotency-in-progress', 'the first request with this key is still running')
    const written = this.#find(claim)
    if (written) return { kind: 'answered', written }
    this.#running.add(claim.key)
    return { kind: 'claimed', claim }
  }

  /**
   * Judges the failure of a request with a claim, by the deadline of the request. A refusal below 500 counts
   * only where no request has succeeded under the key by now; else the success is returned. Throws the error
   * itself; Problem idempotency-key-reused; LedgerUnavailable.
   */
  async successInstead(claim: Claim, error: unknown, deadline: Deadline): Promise<WriteResult> {
    assert(this.#running.has(claim.key), 'a claim is judged before it is settled')
    if (!(error instanceof Problem) || error.status >= 500) throw error
    try {
      await this.#replica.barrier(deadline)
    } catch (unavailable) {
      // By the contract a name outside the key's prefix is refused without a quorum, too.
      throw error.slug === 'forbidden' && unavailable instanceof LedgerUnavailable ? error : unavailable
    }
    const written = this.#find(claim)
    if (!written) throw error
    return written
  }

  /** Ends a claim: the next request under the key may begin. */
  settle(claim: Claim): void {
    assert(this.#running.delete(claim.key), 'a claim is settled once')
  }

  #find(claim: Claim): WriteResult | undefined {
    const entry = this.#replica.receipt(claim.key)
    return entry && claim.read(entry.value)
  }

  #macKey(): KeyObject {
    const wrapped = this.#replica.state.genesis?.receiptKey
    if (!wrapped)
      throw new Problem('not-ready', 'the ledger has not been seen yet', { reasons: ['starting'] })
    if (this.#key?.wrapped === wrapped) return this.#key.key
    try {
      this.#key = { wrapped, key: createSecretKey(this.#keyring().unwrap(wrapped, ['receipts'])) }
      return this.#key.key
    } catch (error) {
      if (!(error instanceof UnknownRootKey)) throw error
      throw new Problem('unknown-root-key', "the receipts' key is wrapped by a root key that this node lacks")
    }
  }

  /**
   * Removes old receipts; every node may. A receipt put anew meanwhile stays. The sweep ends at receipts that
   * cannot be removed now, which are old enough for the next sweep, and once `stop` aborts. Returns the
   * number of removed receipts. Throws DamagedReplica.
   */
  async sweep(stop?: AbortSignal): Promise<number> {
    const before = this.#clock.now() - KEPT_MS
    let gone = 0
    let read = 0
    let old: StoredEntry[] = []
    const remove = async (): Promise<boolean> => {
      const deadline = new Deadline(this.#clock, REMOVE_MS)
      const removed = await this.#replica.removeReceipts(old, deadline)
      if (removed) gone += old.length
      old = []
      return removed
    }
    for (const stored of this.#replica.receipts()) {
      if (stop?.aborted) return gone
      const receipt = decodeEntry(stored.key, stored.value)
      if (receipt?.kind === 'receipt' && receipt.at < before) old.push(stored)
      if (old.length === REMOVED_TOGETHER && !(await remove())) return gone
      if (++read % READ_A_TURN === 0) await nextTurn()
    }
    if (old.length > 0 && !stop?.aborted) await remove()
    return gone
  }
}
