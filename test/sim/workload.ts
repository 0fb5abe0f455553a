// What clients ask: generated, not fixed. Owners, sizes, batches, rotations, secrets in versions, and several calls under
// one Idempotency-Key, in bursts and with pauses.

import type { Ask, Ref, Write } from './asks.ts'
import type { Judge } from './judge.ts'
import type { Random } from './seed.ts'

export const NAMES = ['a', 'a/1', 'a/0000000001', 'b', 'c']
/** Different values of tokens of an owner, before sizes multiply the values; few: clients ask for the same ones. */
const VALUES = [4, 30, 120, 3000]
type Sizes = readonly [least: number, most: number]

/** Sizes come in runs of a kind: in most worlds short ones, in some of all kinds. */
const SHORT: readonly Sizes[] = [
  [0, 12],
  [12, 40],
  [200, 900],
]
const ALL: readonly Sizes[] = [...SHORT, [4000, 9000], [60_000, 65_536]]
const ALL_ONE_IN = 12
/** Of values for tokens, and of secrets. */
const TOKEN_BYTES = 32 * 1024
const SECRET_BYTES = 64 * 1024
/** Tokens that clients ask for as soon as another client has them. */
const RECENT = 5
/** One workload in so many has a large batch, of as many bytes as a request may have, and another one a middle batch. */
const LARGE_ONE_IN = 200
const LARGE = 12_000
const LARGE_BYTES = 16 * 1024 * 1024

export class Workload {
  readonly owners: readonly string[]
  readonly #random: Random
  readonly #judge: Judge
  readonly #kinds: readonly Sizes[]
  #sizes: Sizes = SHORT[0]
  #writes = 0
  #large: number
  readonly #different: number
  readonly #rotations: number
  /** A write that other clients may send, too. */
  #shared: Write | undefined

  constructor(random: Random, judge: Judge) {
    this.#random = random
    this.#judge = judge
    this.owners = Array.from({ length: random.chance(0.1) ? 12 : 1 + random.below(3) }, (_, i) => `o${i}`)
    this.#different = random.pick(VALUES)
    this.#kinds = random.below(ALL_ONE_IN) === 0 ? ALL : SHORT
    this.#rotations = random.pick([0, 1, 3, 10])
    const which = random.below(LARGE_ONE_IN)
    this.#large = which > 1 ? 0 : which === 0 ? LARGE + random.below(88_001) : 100 + random.below(LARGE - 100)
  }

  /** Two days later no caller sends a request again. */
  forget(): void {
    this.#shared = undefined
  }

  next(): Ask {
    const random = this.#random
    const owner = random.pick(this.owners)
    if (random.chance(0.05)) this.#sizes = random.pick(this.#kinds)
    const kind = random.below(100)
    if (kind < 36) return { kind: 'tokenize', owner, values: this.#values() }
    if (kind < 56) return { kind: 'detokenize', owner, tokens: this.#tokens() }
    if (kind < 60) return { kind: 'retokenize', owner, tokens: this.#tokens() }
    if (kind < 60 + this.#rotations) return { kind: 'rotate', owner, to: this.#nextEpoch(owner) }
    if (kind < 73) return { kind: 'epochs', owner }
    if (kind < 88) return this.#write(owner)
    const name = random.pick(NAMES)
    if (kind < 92) return { kind: 'read', owner, name }
    if (kind < 93) return { kind: 'read', owner, name, at: this.#instant() }
    if (kind < 95) return { kind: 'resolve', owner, refs: this.#refs(), at: this.#instant() }
    if (kind < 96) return { kind: 'names', owner }
    if (kind < 98) return { kind: 'read', owner, name, version: 1 + random.below(4) }
    return { kind: 'history', owner, name }
  }

  /** At or beside the begin of a version; undefined: no instant, as most often where there is no version yet. */
  #instant(): number | undefined {
    const { begins } = this.#judge
    if (begins.length === 0 || this.#random.chance(0.4)) return undefined
    return this.#random.pick(begins.slice(-20)) + this.#random.below(3) - 1
  }

  #refs(): Ref[] {
    return Array.from({ length: 1 + this.#random.below(3) }, () => ({
      name: this.#random.pick(NAMES),
      version: this.#random.chance(0.3) ? 1 + this.#random.below(3) : undefined,
    }))
  }

  #text(begin: string, limit: number): string {
    const [least, most] = this.#sizes
    const length = Math.min(limit, least + this.#random.below(most - least + 1))
    return begin.length >= length ? begin : begin.padEnd(length, 'value ')
  }

  #values(): string[] {
    const random = this.#random
    const most = this.#sizes[1] > 1000 ? 2 : random.chance(0.03) ? 100 : 6
    let count = 1 + random.below(most)
    if (this.#large > 0 && this.#sizes[1] < 1000) {
      count = this.#large
      this.#large = 0
    }
    const values = count > 100 ? count : this.#different
    const limit = Math.min(TOKEN_BYTES, Math.floor(LARGE_BYTES / count))
    return Array.from({ length: count }, () =>
      random.chance(0.01) ? '' : this.#text(String(random.below(values)), limit),
    )
  }

  /** Of the owner, of others, forged. */
  #tokens(): string[] {
    const random = this.#random
    const known = this.#judge.tokens
    return Array.from({ length: 1 + random.below(6) }, () => {
      const some = random.chance(0.5) ? known.slice(-RECENT) : known
      const token = some.length > 0 ? random.pick(some) : 'tok_1_00000000000000000000000000000000'
      return random.chance(0.05) ? `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}` : token
    })
  }

  /** Most often the next epoch, as far as clients know. */
  #nextEpoch(owner: string): number {
    const active = this.#judge.activeEpoch(owner)
    return this.#random.chance(0.8) ? active + 1 : 1 + this.#random.below(active + 2)
  }

  #write(owner: string): Write {
    const random = this.#random
    const shared = this.#shared
    if (shared && random.chance(0.4)) return shared
    const create = random.chance(0.4)
    const names = create ? [...new Set([random.pick(NAMES), random.pick(NAMES)])] : [random.pick(NAMES)]
    const value = random.chance(0.02) ? '' : this.#text(`secret ${this.#writes}`, SECRET_BYTES)
    const after = !create && random.chance(0.4) ? 1 + random.below(4) : undefined
    const key = random.chance(0.5) ? `key ${this.#writes}` : undefined
    this.#writes++
    const write: Write = { kind: 'write', owner, names, value, create, after, key }
    if (key !== undefined) this.#shared = write
    return write
  }
}
