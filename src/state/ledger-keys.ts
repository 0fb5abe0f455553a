// The ledger's keys. Numbers have a fixed width and no name contains `@`, so that no two keys are equal and a
// prefix is exact: secrets `a`, `a/1` and `a/0000000001` have different keys.
import { assert } from '../assert.ts'
import { ID, isSecretName, SECRET_VALUE_BYTES } from '../wire.ts'

const WIDTH = 10
const LIMIT = 10 ** WIDTH

export type LedgerKey =
  | { readonly kind: 'genesis' }
  | { readonly kind: 'boot'; readonly boot: string }
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'epoch'; readonly owner: string }
  | { readonly kind: 'key'; readonly owner: string; readonly epoch: number }
  | { readonly kind: 'segment'; readonly boot: string; readonly n: number }
  | { readonly kind: 'version'; readonly owner: string; readonly name: string; readonly version: number }
  | { readonly kind: 'receipt'; readonly owner: string; readonly hash: string }

function fixed(n: number): string {
  assert(Number.isSafeInteger(n) && n >= 0 && n < LIMIT, 'a number in a key has a fixed width')
  return String(n).padStart(WIDTH, '0')
}

export const RECEIPT_PREFIX = 'receipt/'

/** The key of each kind of entry. Numbers are decimal, a hash is 64 hex digits. */
export const ledgerKey = {
  genesis: 'genesis',
  boot: (boot: string): string => `boot/${boot}`,
  node: (node: string): string => `node/${node}`,
  epoch: (owner: string): string => `epoch/${owner}`,
  wrappedKey: (owner: string, epoch: number): string => `key/${owner}@${fixed(epoch)}`,
  segment: (boot: string, n: number): string => `seg/${boot}/${fixed(n)}`,
  version: (owner: string, name: string, version: number): string =>
    `version/${owner}/${name}@${fixed(version)}`,
  receipt: (owner: string, hash: string): string => `${RECEIPT_PREFIX}${owner}/${hash}`,
} as const

const BOOT = /^boot\/([0-9a-f]{32})$/
const NODE = new RegExp(`^node/(${ID})$`)
const EPOCH = new RegExp(`^epoch/(${ID})$`)
const KEY = new RegExp(`^key/(${ID})@([0-9]{10})$`)
const SEGMENT = /^seg\/([0-9a-f]{32})\/([0-9]{10})$/
const VERSION = new RegExp(`^version/(${ID})/(.+)@([0-9]{10})$`)
const RECEIPT = new RegExp(`^receipt/(${ID})/([0-9a-f]{64})$`)

/** The decoded key; undefined for a foreign key (skipped, counted and shown). */
export function parseKey(key: string): LedgerKey | undefined {
  if (key === ledgerKey.genesis) return { kind: 'genesis' }
  // The most frequent kinds come first.
  let match = SEGMENT.exec(key)
  if (match) return { kind: 'segment', boot: match[1], n: Number(match[2]) }
  match = VERSION.exec(key)
  if (match && isSecretName(match[2]))
    return { kind: 'version', owner: match[1], name: match[2], version: Number(match[3]) }
  match = RECEIPT.exec(key)
  if (match) return { kind: 'receipt', owner: match[1], hash: match[2] }
  match = EPOCH.exec(key)
  if (match) return { kind: 'epoch', owner: match[1] }
  match = KEY.exec(key)
  if (match) return { kind: 'key', owner: match[1], epoch: Number(match[2]) }
  match = BOOT.exec(key)
  if (match) return { kind: 'boot', boot: match[1] }
  match = NODE.exec(key)
  if (match) return { kind: 'node', node: match[1] }
  return undefined
}

/** Bytes of the largest entry of each kind, without the key. */
const LARGEST: Readonly<Record<LedgerKey['kind'], number>> = {
  genesis: 1024,
  boot: 512,
  node: 64 * 1024,
  key: 1024,
  epoch: 512,
  receipt: 1024,
  version: SECRET_VALUE_BYTES + 1024,
  segment: 128 * 1024,
}
/** Of every key. */
const KEY_BYTES = 512
/** An entry under a foreign key, put by a commit as large as every driver allows. */
const LARGEST_FOREIGN = 1024 * 1024

/** Encoding asserts the length of an entry: the ranges of a snapshot count on the length. */
export function assertLength(kind: LedgerKey['kind'], bytes: number): void {
  assert(bytes <= LARGEST[kind], 'an entry is not larger than the largest of its kind')
}

/** As in the ledger's interface: the room of the state imports nothing of the ledger. */
type Known = { readonly from: string; readonly to: string; readonly count: number }
type KeyRange = {
  readonly from: string
  readonly to: string
  readonly largest: number
  readonly known?: readonly Known[]
}

/** The range of keys of each kind, in the order of use by a replica: keys of epochs before their epochs. */
const RANGES: readonly (readonly [LedgerKey['kind'], string, string])[] = [
  ['genesis', ledgerKey.genesis, `${ledgerKey.genesis}\0`],
  ['boot', 'boot/', 'boot0'],
  ['node', 'node/', 'node0'],
  ['key', 'key/', 'key0'],
  ['epoch', 'epoch/', 'epoch0'],
  ['receipt', 'receipt/', 'receipt0'],
  ['version', 'version/', 'version0'],
  ['segment', 'seg/', 'seg0'],
]

/**
 * The ranges of a whole snapshot: every kind by itself, then the foreign keys between and outside of the
 * kinds. `known`: segments in the caller's possession, in any order.
 */
export function snapshotRanges(known: readonly Known[]): KeyRange[] {
  const ascending = known.toSorted((a, b) => (a.from < b.from ? -1 : 1))
  const own = RANGES.map(([kind, from, to]) => {
    const range = { from, to, largest: LARGEST[kind] + KEY_BYTES }
    return kind === 'segment' ? { ...range, known: ascending } : range
  })
  const foreign: KeyRange[] = []
  let from = ''
  for (const range of own.toSorted((a, b) => (a.from < b.from ? -1 : 1))) {
    foreign.push({ from, to: range.from, largest: LARGEST_FOREIGN })
    from = range.to
  }
  foreign.push({ from, to: '', largest: LARGEST_FOREIGN })
  return [...own, ...foreign]
}

/** The order of entries in a snapshot of `snapshotRanges`, and in a backup. Negative: `a` is before `b`. */
export function compareKeys(a: string, b: string): number {
  if (a === b) return 0
  return rangeOf(a) - rangeOf(b) || (a < b ? -1 : 1)
}

/** Index in RANGES; foreign keys come last. */
function rangeOf(key: string): number {
  const index = RANGES.findIndex(([, from, to]) => key >= from && key < to)
  return index === -1 ? RANGES.length : index
}
