// Epochs of tokens: opening, rotating and listing epochs, and the unwrapped epoch keys of the node.
import { assert } from '../assert.ts'
import type { Clock, Deadline } from '../clock.ts'
import { type EpochKey, ROOT_BYTES } from '../crypto/epoch-key.ts'
import { type Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { MAX_EPOCH } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import { checkTime } from '../replica/commit.ts'
import type { Replica } from '../replica/replica.ts'
import { encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { entryBytes } from '../state/state.ts'

const CACHED_KEYS = 4096

/** As `TokenRequest` of tokens.ts. */
type EpochRequest = { readonly owner: string; readonly deadline: Deadline }

type NewEpoch = EpochRequest & {
  readonly epoch: number
  /** Revision of `epoch/<owner>`; 0: the owner has no epoch. */
  readonly guard: number
  /** Whether the quota of the owner is obeyed. */
  readonly within: boolean
}

/** The key of the active epoch, and the revision of `epoch/<owner>`, the guard of new mappings. */
type ActiveEpochKey = { readonly key: EpochKey; readonly revision: number }

export type Rotation = { readonly epoch: number; readonly rotated: boolean; readonly revision: number }

type EpochInfo = {
  readonly epoch: number
  readonly opened_at: string
  readonly closed_at: string | null
  readonly tokens: number
}
export type EpochList = { readonly active: number; readonly epochs: readonly EpochInfo[] }

export class Epochs {
  readonly #replica: Replica
  readonly #keyring: () => Keyring
  readonly #clock: Clock
  /** Unwrapped keys by `owner@epoch`, the least recently used first. */
  readonly #keys = new Map<string, EpochKey>()

  constructor(replica: Replica, keyring: () => Keyring, clock: Clock) {
    this.#replica = replica
    this.#keyring = keyring
    this.#clock = clock
  }

  /**
   * Opens epoch `to` where `to` is the active epoch plus one; `to` = active is the safe retry. Throws Problem
   * epoch-conflict, quota-exceeded; LedgerUnavailable, UnknownOutcome.
   */
  async rotate({ owner, deadline }: EpochRequest, to: number): Promise<Rotation> {
    for (;;) {
      await this.#replica.barrier(deadline)
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
      const guard = state?.revision ?? 0
      const revision = await this.#open({ owner, deadline, epoch: to, guard, within: true })
      if (revision > 0) return { epoch: to, rotated: true, revision }
      checkTime(deadline) // another node, or a rewrap, was first: again
    }
  }

  /**
   * Opens epoch 1 of the owner unless an epoch is open already, whatever the quota. Throws LedgerUnavailable,
   * UnknownOutcome.
   */
  async openFirst({ owner, deadline }: EpochRequest): Promise<void> {
    while (!this.#replica.owner(owner)?.active) {
      const revision = await this.#open({ owner, deadline, epoch: 1, guard: 0, within: false })
      if (revision > 0) return
      checkTime(deadline) // another node, or a rewrap, was first
    }
  }

  /**
   * Commits the epoch and its new wrapped key. Returns the revision, or 0 where another node or a rewrap was
   * first. Throws Problem quota-exceeded.
   */
  async #open({ owner, deadline, epoch, guard, within }: NewEpoch): Promise<number> {
    assert(epoch >= 1 && epoch <= MAX_EPOCH, 'epochs are numbered from 1 to MAX_EPOCH')
    const root = this.#clock.random(ROOT_BYTES)
    const before = this.#replica.owner(owner)?.keys.get(epoch - 1)?.openedAt
    const now = Math.max(this.#clock.now(), before ? Date.parse(before) : 0)
    const writer = this.#replica.nextWriter()
    const epochAt = ledgerKey.epoch(owner)
    const keyAt = ledgerKey.wrappedKey(owner, epoch)
    const wrapped = this.#keyring().wrap(root, ['epoch', owner, String(epoch)], this.#clock)
    const openedAt = new Date(now).toISOString()
    const commit = {
      if: [{ key: epochAt, revision: guard }, { key: keyAt, revision: 0 }, this.#replica.wrapGuard],
      put: [
        { key: epochAt, value: encodeEntry({ kind: 'epoch', owner, active: epoch }, writer) },
        { key: keyAt, value: encodeEntry({ kind: 'key', owner, epoch, wrapped, openedAt }, writer) },
      ],
    }
    const { quotas, state } = this.#replica
    const added = commit.put.reduce((sum, { key, value }) => sum + entryBytes(key, value), 0)
    const bytes = Math.max(0, added - (state.sizes.get(epochAt) ?? 0))
    if (within && !quotas.fits(owner, bytes)) throw quotas.exceeded(owner)
    const result = await quotas.during(owner, bytes, () => this.#replica.commit(commit, keyAt, deadline))
    if (!result.ok) return 0
    assert(result.revision > guard, 'the revision of an epoch ascends')
    return result.revision
  }

  /** All epochs of the owner after a barrier, oldest first. Throws LedgerUnavailable. */
  async list({ owner, deadline }: EpochRequest): Promise<EpochList> {
    await this.#replica.barrier(deadline)
    const state = this.#replica.owner(owner)
    const openedAt = (epoch: number): string | undefined =>
      (state?.keys.get(epoch) ?? state?.tombstones.get(epoch))?.openedAt
    const epochs: EpochInfo[] = []
    for (let epoch = 1; epoch <= (state?.active ?? 0); epoch++) {
      const opened = openedAt(epoch)
      assert(opened !== undefined, 'every epoch has its wrapped key or a tombstone')
      epochs.push({
        epoch,
        opened_at: opened,
        closed_at: openedAt(epoch + 1) ?? null,
        tokens: this.#replica.tokens(owner, epoch)?.count ?? 0,
      })
    }
    return { active: state?.active ?? 0, epochs }
  }

  /**
   * For a single request: whether the owner has an epoch. All unknown epochs together cost a single barrier.
   */
  known({ owner, deadline }: EpochRequest): (epoch: number) => Promise<boolean> {
    let barrier: Promise<void> | undefined
    return async (epoch) => {
      if (this.#replica.owner(owner)?.keys.has(epoch)) return true
      barrier ??= this.#replica.barrier(deadline)
      await barrier
      return this.#replica.owner(owner)?.keys.has(epoch) ?? false
    }
  }

  /** Throws Problem not-ready, unknown-root-key; LedgerUnavailable. */
  async active({ owner, deadline }: EpochRequest): Promise<ActiveEpochKey> {
    if (!this.#replica.owner(owner)?.active) await this.#replica.barrier(deadline)
    const state = this.#replica.owner(owner)
    if (!state?.active)
      throw new Problem('not-ready', 'the first epoch of this owner is not open yet', {
        reasons: ['epoch 1 is not open'],
      })
    const { active, revision } = state
    return { key: await this.key({ owner, deadline }, active), revision }
  }

  /** The key of a known epoch. Throws Problem unknown-root-key, internal; LedgerUnavailable. */
  key({ owner, deadline }: EpochRequest, epoch: number): Promise<EpochKey> {
    return this.#replica.lookAgain(deadline, () => this.#key(owner, epoch))
  }

  #key(owner: string, epoch: number): EpochKey {
    const name = `${owner}@${epoch}`
    const cached = this.#keys.get(name)
    if (cached) this.#keys.delete(name)
    const key = cached ?? this.#unwrap(owner, epoch)
    const [oldest] = this.#keys.keys()
    if (this.#keys.size >= CACHED_KEYS && oldest !== undefined) this.#keys.delete(oldest)
    this.#keys.set(name, key)
    assert(key.owner === owner && key.epoch === epoch, 'an epoch key belongs to one owner and epoch')
    assert(this.#keys.size <= CACHED_KEYS, 'the cache of epoch keys is bounded')
    return key
  }

  #unwrap(owner: string, epoch: number): EpochKey {
    const entry = this.#replica.owner(owner)?.keys.get(epoch)
    if (!entry) throw new Problem('internal', `the key of epoch ${epoch} is not in the ledger`)
    try {
      return this.#keyring().epochKey(owner, epoch, entry.wrapped)
    } catch (error) {
      if (!(error instanceof UnknownRootKey)) throw error
      throw new Problem('unknown-root-key', `epoch ${epoch} is wrapped by a root key that this node lacks`)
    }
  }
}
