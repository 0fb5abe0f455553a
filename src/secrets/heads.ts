// The latest version of a secret as this node knows it: what its replica has applied, or, until that has it, what the
// ledger has accepted from here. So updates one after the other need not wait for the replica.
import type { Replica } from '../replica/replica.ts'

export type Head = {
  readonly version: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
}

export class Heads {
  readonly #replica: Replica
  /** Accepted and not applied yet, oldest first. */
  readonly #accepted = new Map<string, readonly Head[]>()

  constructor(replica: Replica) {
    this.#replica = replica
  }

  /** Undefined where none is known here, which says nothing of the ledger. */
  of(owner: string, name: string): Head | undefined {
    const versions = this.#replica.owner(owner)?.secrets.get(name) ?? []
    const accepted = this.#accepted.get(`${owner}/${name}`)?.at(-1)
    if (accepted && accepted.version > versions.length) return accepted
    const latest = versions.at(-1)
    return latest && { version: versions.length, validFrom: latest.validFrom }
  }

  /** When a version begins that the ledger has accepted from here and the replica has not applied yet. */
  validFrom(owner: string, name: string, version: number): number | undefined {
    return this.#accepted.get(`${owner}/${name}`)?.find((head) => head.version === version)?.validFrom
  }

  accepted(owner: string, names: readonly string[], head: Head, revision: number): void {
    const keys = names.map((name) => `${owner}/${name}`)
    for (const key of keys) this.#accepted.set(key, [...(this.#accepted.get(key) ?? []), head])
    const forget = (): void => {
      for (const key of keys) {
        const others = this.#accepted.get(key)?.filter((each) => each !== head) ?? []
        if (others.length > 0) this.#accepted.set(key, others)
        else this.#accepted.delete(key)
      }
    }
    this.#replica.waitApplied(revision).then(forget, forget)
  }
}
