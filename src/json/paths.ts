// Paths: the configured paths as a trie for the scan, and the paths of values as text for callers.

const PATH_MAX = 1000 // characters
const CUT = '…'
const PLAIN_NAME = /^[A-Za-z0-9_$-]+$/
/** Stands for the members that no path names. No configured field has control characters. */
export const OTHERS = '\0'
const LEAVES_MAX = 0x10000 // an index must fit into 16 bits

type Child = { readonly name: Uint8Array; readonly step: Step }

/** A node of the trie. */
export class Step {
  /** Index of the path that ends here, or -1. */
  leaf = -1
  /** The step for the elements, if the value is an array. */
  element: Step | null = null
  /** The step for the members that no path names, if the value is an object. */
  others: Step | null = null

  readonly #children: Child[] = []
  #longest = -1 // bytes of a child's name
  #buckets: Child[][] = []

  /** The step for the member with this name (unescaped, `bytes` from `from` up to `to`). */
  child(bytes: Uint8Array, from: number, to: number): Step | null {
    if (to - from > this.#longest) return null
    for (const { name, step } of this.#buckets[bucketOf(bytes, from, to) & (this.#buckets.length - 1)]) {
      if (name.length === to - from && isAt(bytes, from, name)) return step
    }
    return null
  }

  /** The step for a member or, with null, for the elements. Creates a missing step. */
  grow(name: Uint8Array | null): Step {
    if (name === null) {
      this.element ??= new Step()
      return this.element
    }
    const known = this.child(name, 0, name.length)
    if (known !== null) return known
    const step = new Step()
    this.#children.push({ name, step })
    this.#longest = Math.max(this.#longest, name.length)
    this.#fillBuckets()
    return step
  }

  #fillBuckets(): void {
    // Rebuilt only when the number of buckets doubles, so that many names stay cheap.
    const added = this.#children.slice(-1)
    const full = this.#children.length > this.#buckets.length / 2
    if (full) this.#buckets = Array.from({ length: Math.max(4, this.#buckets.length * 2) }, () => [])
    for (const child of full ? this.#children : added) {
      this.#buckets[bucketOf(child.name, 0, child.name.length) & (this.#buckets.length - 1)].push(child)
    }
  }
}

/** The paths to find: a trie rooted at the body. Built once per route and configuration. */
export class Paths {
  readonly root = new Step()
  /** As given. */
  readonly list: readonly string[]

  /**
   * Each path dotted, `[]` = every element: `values[]`, `records[].patient.ssn`, `a[][]`, `to`, `[].id`.
   * OTHERS as the last name = every member that no path names.
   * Member names are compared exactly, as UTF-8 and after unescaping, and cannot have `.`, `[` or `]`. A path
   * may begin with another path. Throws Error for bad syntax, and for a path that stands twice.
   */
  constructor(paths: readonly string[]) {
    this.list = paths
    if (paths.length > LEAVES_MAX) throw new Error(`more than ${LEAVES_MAX} paths`)
    for (const [leaf, path] of paths.entries()) {
      let step = this.root
      const rest = path.endsWith(`.${OTHERS}`)
      for (const part of partsOf(rest ? path.slice(0, -OTHERS.length - 1) : path)) step = step.grow(part)
      if (rest) step = step.others ??= new Step()
      if (step.leaf >= 0) throw new Error(`the path ${JSON.stringify(path)} stands twice`)
      step.leaf = leaf
    }
  }
}

/** The path of a member of the object at `prefix` ('' for the body). At most 1,000 characters. */
export function memberPath(prefix: string, name: string): string {
  if (!PLAIN_NAME.test(name)) return cut(prefix, `[${JSON.stringify(name)}]`)
  return cut(prefix, prefix === '' ? name : `.${name}`)
}

/** The path of an element of the array at `prefix` ('' for the body). At most 1,000 characters. */
export function elementPath(prefix: string, index: number): string {
  return cut(prefix, `[${index}]`)
}

/** Whether the path was too long and lacks its end. (In a name, `…` stands between quotes.) */
export function isCut(path: string): boolean {
  return path.endsWith(CUT)
}

function cut(prefix: string, more: string): string {
  if (isCut(prefix)) return prefix
  const path = prefix + more
  if (path.length <= PATH_MAX) return path
  // Half a surrogate pair could not be sent as UTF-8.
  const half = path.charCodeAt(PATH_MAX - 2) >> 10 === 0xd800 >> 10
  return path.slice(0, half ? PATH_MAX - 2 : PATH_MAX - 1) + CUT
}

/** A name as UTF-8 for a member, null for `[]`. */
function partsOf(path: string): (Uint8Array | null)[] {
  const parts: (Uint8Array | null)[] = []
  const part = /\[\]|(?:^|(?!^)\.)([^.[\]]+)/y
  while (part.lastIndex < path.length) {
    const found = part.exec(path)
    if (found === null) break
    parts.push(found[0] === '[]' ? null : Buffer.from(found[1], 'utf8'))
  }
  // Without a match `exec` sets lastIndex to 0, which is never the end of a path with parts.
  if (part.lastIndex !== path.length || parts.length === 0 || !path.isWellFormed()) {
    throw new Error(`bad path ${JSON.stringify(path)}: write it like records[].patient.ssn`)
  }
  return parts
}

/** The names in the buckets are configured, so nobody can fill a bucket by the choice of a body. */
function bucketOf(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0
  for (let i = from; i < to; i++) hash = (Math.imul(hash, 31) + bytes[i]) | 0
  return hash
}

function isAt(bytes: Uint8Array, from: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) {
    if (bytes[from + i] !== name[i]) return false
  }
  return true
}
