// The latest version of a secret as known at the node: applied by the replica, or accepted by the ledger from
// here and not applied yet. So updates in a row need not wait for the replica.
import { assert } from '../assert.ts'
import { Deadline } from '../clock.ts'
import type { Replica } from '../replica/replica.ts'

export type Head = {
  readonly version: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
}

export class Heads {
  readonly #replica: Replica
  /** Heads accepted and not applied yet, by `owner/name`, oldest first. */
  readonly #accepted = new Map<string, readonly Head[]>()

  constructor(replica: Replica) {
    this.#replica = replica
  }

  /** Undefined where no version is known here; the ledger may have a version all the same. */
  of(owner: string, name: string): Head | undefined {
    const versions = this.#replica.owner(owner)?.secrets.get(name) ?? []
    const accepted = this.#accepted.get(`${owner}/${name}`)?.at(-1)
    if (accepted && accepted.version > versions.length) return accepted
    const latest = versions.at(-1)
    return latest && { version: versions.length, validFrom: latest.validFrom }
  }

  /** `valid_from` of a version that the ledger has accepted from here and the replica has not applied yet. */
  validFrom(owner: string, name: string, version: number): number | undefined {
    return this.#accepted.get(`${owner}/${name}`)?.find((head) => head.version === version)?.validFrom
  }

  /** Remembers the head of every name until the replica has applied `revision`. */
  accepted(owner: string, names: readonly string[], head: Head, revision: number): void {
    assert(revision > 0, 'an accepted commit has a revision')
    // After an unknown outcome the answer may come later than the replica, and later than another version.
    if (this.#replica.applied >= revision) return
    const later = names.filter((name) => (this.of(owner, name)?.version ?? 0) < head.version)
    const keys = later.map((name) => `${owner}/${name}`)
    for (const key of keys) {
      const before = this.#accepted.get(key) ?? []
      const last = before.at(-1)
      assert(!last || last.version < head.version, 'accepted versions of a secret ascend')
      assert(!last || last.validFrom < head.validFrom, 'valid_from of accepted versions ascends')
      this.#accepted.set(key, [...before, head])
    }
    const forget = (): void => {
      for (const key of keys) {
        const others = this.#accepted.get(key)?.filter((each) => each !== head) ?? []
        if (others.length > 0) this.#accepted.set(key, others)
        else this.#accepted.delete(key)
      }
    }
    this.#replica.waitApplied(revision, Deadline.never).then(forget, forget)
  }
}
