// Reading all entries at one revision from etcd, by pages. Two costs decide how.
//
// Bytes: etcd bounds a page by a number of keys only, and gRPC refuses a message above its bound, for ever.
// So a page has at most as many keys as fit where every entry is the largest of its range.
//
// Keys: etcd counts all keys from a page's first key to its `range_end`, also beyond the limit. With the end
// of the whole range, reading would cost the square of the number of keys. So a page ends at the end of a
// block, the keys with one prefix: the prefix grows where a block holds many times the keys of a page, and
// shrinks where a block holds few.
import { FatalError } from '../errors.ts'
import { isTooLarge, type RangeResponse } from './etcd-client.ts'
import { entryOf, keyBytes, keyText, toEtcd } from './etcd-messages.ts'
import type { KeyRange, Known, SnapshotEntry } from './ledger.ts'

/** Of a page: a quarter of the largest gRPC message. */
const PAGE_BYTES = 16 * 1024 * 1024
const PAGE_ENTRIES = 8192
/** A block with more than so many pages gets a longer prefix. */
const BLOCK_PAGES = 8
/** Known entries compared by one count. */
const COUNT_ENTRIES = 65_536

/** Asks for a range of keys. Throws Compacted, LedgerUnavailable, and EtcdError for an answer too large. */
export type AskRange = (query: object) => Promise<RangeResponse>

/** Keys from `from` (included) to `to` (excluded; empty: to the end). */
type Stretch = Pick<KeyRange, 'from' | 'to'>

/** All live entries of the ranges at the revision. At most two pages are in memory. */
export async function* entriesAt(
  revision: number,
  ranges: readonly KeyRange[],
  ask: AskRange,
): AsyncIterable<SnapshotEntry> {
  const askAt: AskRange = (query) => ask({ ...query, revision: toEtcd(revision) })
  for (const range of ranges) {
    const limit = Math.min(PAGE_ENTRIES, Math.max(1, Math.floor(PAGE_BYTES / range.largest)))
    for await (const stretch of unknownStretches(range, limit, askAt)) yield* pages(stretch, limit, askAt)
  }
}

/** The next page is fetched while a page is used. */
async function* pages(stretch: Stretch, most: number, ask: AskRange): AsyncIterable<SnapshotEntry> {
  const blocks = new Blocks(stretch, most)
  let limit = most
  const fetch = async (): Promise<RangeResponse> => {
    for (;;) {
      try {
        const page = await ask({ ...bounds(blocks), limit })
        limit = Math.min(most, limit + Math.ceil(limit / 8))
        return page
      } catch (error) {
        if (!isTooLarge(error)) throw error
        if (limit === 1)
          throw new FatalError('an entry of the ledger is larger than a message', { cause: error })
        limit = Math.floor(limit / 2)
      }
    }
  }
  for (let next = fetch(); ; ) {
    const page = await next
    blocks.read(page)
    if (!blocks.done) {
      next = fetch()
      next.catch(() => undefined) // an awaiting caller gets the error; a caller that stopped early needs none
    }
    for (const kv of page.kvs) yield entryOf(kv)
    if (blocks.done) return
  }
}

/** The range without the known parts of which the ledger has as many entries. */
async function* unknownStretches(
  { from, to, known = [] }: KeyRange,
  limit: number,
  ask: AskRange,
): AsyncIterable<Stretch> {
  let next = from
  for (const group of groups(known)) {
    for await (const same of sameParts(group, limit, ask)) {
      if (next < same.from) yield { from: next, to: same.from }
      next = same.to
    }
  }
  if (to === '' || next < to) yield { from: next, to }
}

/** Runs of neighbouring parts, each compared by one count at first. */
function groups(known: readonly Known[]): Known[][] {
  const all: Known[][] = []
  let entries = Number.POSITIVE_INFINITY
  for (const part of known) {
    if (entries + part.count > COUNT_ENTRIES) {
      all.push([])
      entries = 0
    }
    all[all.length - 1].push(part)
    entries += part.count
  }
  return all
}

/**
 * The stretches in which the ledger has as many entries as known. A known part never loses entries, so an
 * equal count over several parts says the same of each part, and that nothing lies between the parts.
 */
async function* sameParts(parts: readonly Known[], limit: number, ask: AskRange): AsyncIterable<Stretch> {
  const stretch = { from: parts[0].from, to: `${parts[parts.length - 1].to}\0` }
  const count = Number((await ask({ ...bounds(stretch), count_only: true })).count)
  if (count === parts.reduce((sum, part) => sum + part.count, 0)) {
    yield stretch
  } else if (parts.length > 1 && count > limit) {
    const half = Math.floor(parts.length / 2)
    yield* sameParts(parts.slice(0, half), limit, ask)
    yield* sameParts(parts.slice(half), limit, ask)
  } // else one page has all
}

function bounds({ from, to }: Stretch): object {
  // etcd knows no empty key; a `range_end` of one zero byte is the end of all keys.
  return { key: keyBytes(from || '\0'), range_end: keyBytes(to || '\0') }
}

/**
 * Goes through a stretch of keys block by block; `from` and `to` bound the next page. A block ends where the
 * keys with its prefix end, and begins where the block before has ended.
 */
class Blocks implements Stretch {
  from: string
  done = false
  readonly #stretch: Stretch
  readonly #limit: number
  #prefix: string
  /** Keys read of the block. */
  #keys = 0
  /** Empty blocks in a row; 1 at first, since nothing is known yet of the keys before the first key. */
  #empty = 1
  /** The last key read, or the beginning of the stretch. */
  #last: string
  /** Where neighbouring keys differed when blocks between them were empty: the length of a prefix. */
  #apart = 0

  constructor(stretch: Stretch, limit: number) {
    this.#stretch = stretch
    this.#limit = limit
    this.from = stretch.from
    this.#last = stretch.from
    this.#prefix = stretch.from.slice(0, common(stretch.from, stretch.to))
  }

  get to(): string {
    return this.#clipped(endOf(this.#prefix))
  }

  read({ kvs, count, more }: Pick<RangeResponse, 'kvs' | 'count' | 'more'>): void {
    if (kvs.length > 0) this.#took(keyText(kvs[0].key), keyText(kvs[kvs.length - 1].key), kvs.length)
    if (more) {
      this.from = `${this.#last}\0`
      if (Number(count) > BLOCK_PAGES * this.#limit) this.#narrow(kvs)
    } else this.#leaveBlock()
  }

  #took(first: string, last: string, keys: number): void {
    if (this.#empty > 0) this.#apart = common(this.#last, first) + 1
    this.#last = last
    this.#keys += keys
    this.#empty = 0
  }

  /** A block of the keys around the last key: at least those of the page. */
  #narrow(kvs: RangeResponse['kvs']): void {
    const shared = common(keyText(kvs[0].key), this.#last)
    this.#prefix = this.#last.slice(0, Math.max(this.#prefix.length + 1, shared))
    this.#keys = kvs.length
  }

  #leaveBlock(): void {
    this.from = this.to
    this.done = this.from === this.#stretch.to
    if (this.done) return
    const length = this.#prefix.length
    const next = nextBlock(this.#prefix)
    if (this.#keys >= this.#limit / 2) this.#prefix = next
    else this.#prefix = next.slice(0, this.#wider(length))
    this.#keys = 0
  }

  /** The length of the next prefix, after a block with few keys or none. */
  #wider(length: number): number {
    if (this.#keys > 0) return Math.max(0, length - 1)
    // Nothing near: the next keys are where neighbours differed before, or a little beyond.
    const step = 2 ** this.#empty++
    return Math.max(0, Math.min(length - 1, Math.max(length - step, this.#apart)))
  }

  #clipped(end: string): string {
    const { to } = this.#stretch
    return end === '' || (to !== '' && end > to) ? to : end
  }
}

/** The first key after all keys with the prefix; empty: there is none. */
function endOf(prefix: string): string {
  let length = prefix.length
  while (length > 0 && prefix.charCodeAt(length - 1) === 0xff) length--
  if (length === 0) return ''
  return prefix.slice(0, length - 1) + String.fromCharCode(prefix.charCodeAt(length - 1) + 1)
}

/**
 * The prefix of the block after the block of `prefix`. Behind the last digit, decimal or hexadecimal, the
 * first block of the next tens follows: behind 0x19 is 0x20, and what is between belongs to the block, too.
 */
function nextBlock(prefix: string): string {
  if (prefix === '') return ''
  const head = prefix.slice(0, -1)
  const last = prefix[prefix.length - 1]
  if (last !== '9' && last !== 'f' && last !== '\xff') return endOf(prefix)
  const next = nextBlock(head)
  return next === '' ? '' : `${next}0`
}

/** The length of the longest common prefix. */
function common(a: string, b: string): number {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return length
}
