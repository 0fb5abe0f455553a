// The latest version of a secret as this node knows it: what its replica has applied, or, until that has it, what the
// ledger has accepted from here. So updates one after the other need not wait for the replica.
import type { Replica } from '../replica/replica.ts'
import { secretKey } from '../state/keys.ts'

export type Head = {
  readonly version: number
  /** What the next update is guarded by. */
  readonly revision: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
}

export class Heads {
  readonly #replica: Replica
  readonly #accepted = new Map<string, Head>()

  constructor(replica: Replica) {
    this.#replica = replica
  }

  /** Undefined where none is known here. */
  of(owner: string, name: string): Head | undefined {
    const secret = this.#replica.owner(owner)?.secrets.get(name)
    const accepted = this.#accepted.get(secretKey(owner, name))
    if (accepted && accepted.revision > (secret?.revision ?? 0)) return accepted
    const latest = secret?.versions[secret.version - 1]
    return (
      secret && latest && { version: secret.version, revision: secret.revision, validFrom: latest.validFrom }
    )
  }

  /** True where one is known; false says nothing. */
  exists(owner: string, name: string): boolean {
    return (
      this.#accepted.has(secretKey(owner, name)) || !!this.#replica.owner(owner)?.secrets.get(name)?.version
    )
  }

  accepted(owner: string, names: readonly string[], head: Head): void {
    const keys = names.map((name) => secretKey(owner, name))
    for (const key of keys) this.#accepted.set(key, head)
    const forget = (): void => {
      for (const key of keys) if (this.#accepted.get(key) === head) this.#accepted.delete(key)
    }
    this.#replica.waitApplied(head.revision).then(forget, forget)
  }
}
