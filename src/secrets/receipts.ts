// Receipts: what an Idempotency-Key got. A receipt is put in the same commit as the effect that it tells of,
// under the guard that there is none: so of several requests under one key, on whatever nodes, at most one
// has an effect.
import { createSecretKey, type KeyObject } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { type Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { type AskedRequest, receiptHash, requestMac, sameMac } from '../crypto/receipt.ts'
import { Problem } from '../errors.ts'
import type { Found, LedgerPut, Replica, StoredEntry } from '../replica/replica.ts'
import { decodeEntry, encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { Writer } from '../state/writer.ts'
import { nextTurn } from '../waiting.ts'

/** Receipts are kept for longer than the day that callers are promised, by whatever clock. */
export const KEPT_MS = 48 * 3600_000
/** An etcd counts operations: by itself it takes 128. */
const REMOVED_TOGETHER = 64
/** Receipts read in one turn of the event loop. */
const READ_A_TURN = 500

/** What a write has done. With it and the request itself its answer can be given again. */
export type WriteResult = {
  readonly version: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
  /** 0 where it was done before. */
  readonly revision: number
  /** By an earlier request under the same Idempotency-Key. */
  readonly replayed: boolean
}

/** One request under an Idempotency-Key. */
export class Claim {
  /** Of the receipt. */
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

  /** For the commit that has the effect. */
  put(writer: Writer, version: number, validFrom: number, now: number): LedgerPut {
    const about = { owner: this.#owner, hash: this.#hash, mac: this.#mac }
    return {
      key: this.key,
      value: encodeEntry({ kind: 'receipt', ...about, at: now, version, validFrom }, writer),
    }
  }

  /** What stood in the way of a commit, if it was a receipt. Throws Problem idempotency-key-reused. */
  amongFound(found: readonly Found[]): WriteResult | undefined {
    const value = found.find(({ key }) => key === this.key)?.value
    return value ? this.read(value) : undefined
  }

  /** Throws Problem idempotency-key-reused where the receipt is another request's. */
  read(value: Uint8Array): WriteResult {
    const receipt = decodeEntry(this.key, value)
    if (receipt?.kind !== 'receipt' || !sameMac(receipt.mac, this.#mac))
      throw new Problem('idempotency-key-reused', 'this Idempotency-Key belongs to another request')
    const { version, validFrom } = receipt
    return { version, validFrom, revision: 0, replayed: true }
  }
}

/** What a request under an Idempotency-Key meets: an earlier success, or nothing in its way. */
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
   * The success of an earlier request, or the claim under which this request goes on: put `claim` into the
   * commit, and call `settle` at the end, whatever the end is. Throws Problem idempotency-in-progress,
   * idempotency-key-reused, not-ready, unknown-root-key.
   */
  begin(owner: string, idempotencyKey: string, request: AskedRequest): Begun {
    const key = this.#macKey()
    const claim = new Claim(owner, receiptHash(key, owner, idempotencyKey), requestMac(key, request))
    if (this.#running.has(claim.key))
      throw new Problem('idempotency-in-progress', 'the first request with this key is still running')
    const written = this.#find(claim)
    if (written) return { kind: 'answered', written }
    this.#running.add(claim.key)
    return { kind: 'claimed', claim }
  }

  /**
   * Judges the failure of a request with a claim. A refusal below 500 is believed only where nobody has had
   * success under the key by now: else returns that success. Throws the error itself; Problem
   * idempotency-key-reused; LedgerUnavailable.
   */
  async successInstead(claim: Claim, error: unknown): Promise<WriteResult> {
    if (!(error instanceof Problem) || error.status >= 500) throw error
    await this.#replica.barrier()
    const written = this.#find(claim)
    if (!written) throw error
    return written
  }

  /** Ends a claim: the next request under the key may begin. */
  settle(claim: Claim): void {
    this.#running.delete(claim.key)
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
   * Removes receipts that are old enough; every node may. One that was put anew meanwhile stays, and what
   * cannot be removed now is old enough the next time. Returns how many are gone. Throws DamagedReplica.
   */
  async sweep(): Promise<number> {
    const before = this.#clock.now() - KEPT_MS
    let gone = 0
    let read = 0
    let old: StoredEntry[] = []
    const remove = async (): Promise<void> => {
      if (await this.#replica.removeReceipts(old)) gone += old.length
      old = []
    }
    for (const stored of this.#replica.receipts()) {
      const receipt = decodeEntry(stored.key, stored.value)
      if (receipt?.kind === 'receipt' && receipt.at < before) old.push(stored)
      if (old.length === REMOVED_TOGETHER) await remove()
      if (++read % READ_A_TURN === 0) await nextTurn()
    }
    if (old.length > 0) await remove()
    return gone
  }
}
