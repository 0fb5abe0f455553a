// The digest of a state, without revisions and places: equal on all replicas at a revision, and after a
// rebuild, a backup and a restore. A sum of hashes, so that a change costs an addition. Genesis, boots,
// nodes, wrapped bytes and receipts are left out, since a restore or a rewrap changes these.
import { createHash, hash } from 'node:crypto'
import { assert } from '../assert.ts'

/** Words of 32 bits in a sum of hashes. */
const WORDS = 8
const NOTHING = new Uint8Array(0)

/** Mappings that an insert added: how many, and the sums of the four little-endian words of their bodies. */
export type Inserted = { readonly count: number; readonly sum: Float64Array }

/** The mappings of an owner and epoch. `sum` modulo 2^128, the least word first; words are below 2^32. */
type MappingSum = {
  readonly owner: string
  readonly epoch: number
  count: number
  readonly sum: Float64Array
  /** The hash that is a part of the digest's sum; undefined where the mappings have changed since. */
  accounted: Buffer | undefined
}

export class Digest {
  /** Sum modulo 2^256 of the hashes of all accounted contents, the least word first. */
  readonly #sum = new Uint32Array(WORDS)
  /** By the number of the table. */
  readonly #mappings = new Map<number, MappingSum>()
  /** Numbers of tables whose mappings have changed since the last digest. */
  readonly #changed = new Set<number>()

  /** Adds the content of a key, or subtracts the content. `text` is ASCII. */
  account(key: string, text: string, sign: 1 | -1 = 1, rest: Uint8Array = NOTHING): void {
    const head = `${key}\0${text}`
    const content = Buffer.allocUnsafe(head.length + rest.length)
    content.write(head, 'latin1')
    content.set(rest, head.length)
    addWide(this.#sum, hash('sha256', content, 'buffer'), sign)
  }

  /** Adds a table of mappings, without mappings yet. */
  addTable(id: number, owner: string, epoch: number): void {
    assert(!this.#mappings.has(id), 'a table is added once')
    this.#mappings.set(id, { owner, epoch, count: 0, sum: new Float64Array(4), accounted: undefined })
  }

  addMappings(id: number, { count, sum }: Inserted): void {
    const mappings = this.#mappings.get(id)
    assert(mappings, 'a table is added before its mappings')
    if (count === 0) return
    this.#forget(mappings)
    this.#changed.add(id)
    mappings.count += count
    addSum(mappings.sum, sum)
  }

  dropTable(id: number): void {
    const mappings = this.#mappings.get(id)
    if (mappings) this.#forget(mappings)
    this.#mappings.delete(id)
    this.#changed.delete(id)
  }

  #forget(mappings: MappingSum): void {
    if (mappings.accounted) addWide(this.#sum, mappings.accounted, -1)
    mappings.accounted = undefined
  }

  /** A single SHA-256 in hex: the sums themselves would show an owner the tokens of another owner. */
  value(): string {
    this.settle(this.#changed.size)
    return createHash('sha256')
      .update('coffer/2/digest\0')
      .update(Buffer.from(this.#sum.buffer))
      .digest('hex')
  }

  /** Tables that have changed since the last digest. */
  get unsettled(): number {
    return this.#changed.size
  }

  /** Hashes up to `count` tables that have changed. Returns false where none is left. */
  settle(count: number): boolean {
    let left = count
    for (const id of this.#changed) {
      if (left-- === 0) return true
      const mappings = this.#mappings.get(id)
      assert(mappings, 'a dropped table has not changed')
      mappings.accounted = hash('sha256', mappingText(mappings), 'buffer')
      addWide(this.#sum, mappings.accounted, 1)
      this.#changed.delete(id)
    }
    return false
  }
}

function mappingText({ owner, epoch, count, sum }: MappingSum): string {
  const words = Array.from(sum, (word) => word.toString(16).padStart(8, '0')).reverse()
  return `mappings\0${owner}\0${epoch}\0${count}\0${words.join('')}`
}

/**
 * Adds `part` to `sum`, modulo 2^128, the least word first. Words of `sum` stay below 2^32; words of `part`
 * may be sums, below 2^52.
 */
export function addSum(sum: Float64Array, part: Float64Array): void {
  let carry = 0
  for (let i = 0; i < 4; i++) {
    const total = sum[i] + part[i] + carry
    assert(Number.isSafeInteger(total), 'sums are exact below 2^53')
    sum[i] = total % 0x1_0000_0000
    carry = Math.floor(total / 0x1_0000_0000)
  }
}

/** Adds or subtracts `part`: WORDS words of 32 bits, little-endian. */
function addWide(sum: Uint32Array, part: Buffer, sign: 1 | -1): void {
  let carry = sign === 1 ? 0 : 1
  for (let i = 0; i < WORDS; i++) {
    const word = part.readUInt32LE(4 * i)
    const total = sum[i] + (sign === 1 ? word : ~word >>> 0) + carry
    sum[i] = total
    carry = total > 0xffff_ffff ? 1 : 0
  }
}
