// A value together with its path in a file, and readers that tell every fault, not only the first.
//
// After a fault a reader gives an empty value of its type and the reading goes on; the caller throws the
// whole away when any fault was told. No message repeats a value: it says the type found.

/** One mistake: `path` as `owners[1].keys[0].sha256`, '' for the whole file; `message` is what to do. */
export type Fault = { readonly path: string; readonly message: string }

/** Stands for a value whose fault has been told: nothing more is said about it. */
export const REFUSED = Symbol('refused')

/**
 * The path of a member. A name that is long or odd is shown by its position only, since a secret may have
 * slipped into the place of a name.
 */
export function memberPath(path: string, name: string, index: number): string {
  const shown = /^[A-Za-z_][A-Za-z0-9_-]{0,23}$/.test(name) ? name : `(member ${index + 1})`
  return path === '' ? shown : `${path}.${shown}`
}

/** A mapping: neither a list nor null. */
function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function typeOf(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping'
  if (typeof value === 'boolean') return 'true or false'
  return typeof value === 'number' ? 'a number' : 'text'
}

export class Place {
  readonly path: string
  readonly #value: unknown
  readonly #faults: Fault[]

  /** `value` is plain data: strings, numbers, booleans, null, arrays, objects; undefined where absent. */
  constructor(value: unknown, path: string, faults: Fault[]) {
    this.#value = value
    this.path = path
    this.#faults = faults
  }

  /** True where the file has something here, be it wrong. */
  get given(): boolean {
    return this.#value !== undefined
  }

  fault(message: string): void {
    this.#faults.push({ path: this.path, message })
  }

  /** The named members. Others are faults; so is a value that is no mapping: its members are silent then. */
  members<Name extends string>(...names: Name[]): Record<Name, Place> {
    const value = isMapping(this.#value) ? this.#value : undefined
    if (value === undefined) this.#mismatch(`a mapping with ${names.join(', ')}`)
    const known: ReadonlySet<string> = new Set(names)
    for (const [index, name] of Object.keys(value ?? {}).entries()) {
      if (known.has(name)) continue
      const message = `unknown member; those known here are ${names.join(', ')}: correct or remove it`
      this.#faults.push({ path: memberPath(this.path, name, index), message })
    }
    const places = names.map((name, index) => {
      const path = memberPath(this.path, name, index)
      const own = value !== undefined && Object.hasOwn(value, name)
      const inner = own ? value[name] : value === undefined ? REFUSED : undefined
      return [name, new Place(inner, path, this.#faults)] as const
    })
    // Object.fromEntries forgets the names' type; they are exactly `names`.
    return Object.fromEntries(places) as Record<Name, Place>
  }

  /** A mapping of any members. */
  mapping(): Readonly<Record<string, unknown>> {
    if (isMapping(this.#value)) return this.#value
    this.#mismatch('a mapping')
    return {}
  }

  /** The elements, `least` of them or more; `expected` names them, as in `a list of field paths`. */
  list(expected: string, least = 0): readonly Place[] {
    if (!Array.isArray(this.#value)) {
      this.#mismatch(expected)
      return []
    }
    if (this.#value.length < least) this.fault(`expected ${expected}, found an empty list`)
    return this.#value.map((inner: unknown, i) => new Place(inner, `${this.path}[${i}]`, this.#faults))
  }

  /** Text that `accept` agrees to; '' after a fault. */
  text(expected: string, accept: (text: string) => boolean): string {
    const value = this.#value
    if (typeof value !== 'string') {
      const hint = typeof value === 'number' || typeof value === 'boolean' ? '; put it in quotes' : ''
      this.#mismatch(expected, hint)
      return ''
    }
    if (accept(value)) return value
    this.fault(
      value === '' ? `expected ${expected}, found empty text` : `expected ${expected}, found other text`,
    )
    return ''
  }

  /** A whole number from 1 to `max`; 0 after a fault. */
  positive(max: number): number {
    const value = this.#value
    const expected = `a whole number from 1 to ${max}`
    if (typeof value !== 'number') {
      this.#mismatch(expected)
      return 0
    }
    if (Number.isInteger(value) && value >= 1 && value <= max) return value
    this.fault(`expected ${expected}, found another number`)
    return 0
  }

  flag(): boolean {
    if (typeof this.#value === 'boolean') return this.#value
    this.#mismatch('true or false')
    return false
  }

  #mismatch(expected: string, hint = ''): void {
    if (this.#value === REFUSED) return
    if (this.#value === undefined) this.fault(`missing; expected ${expected}`)
    else this.fault(`expected ${expected}, found ${typeOf(this.#value)}${hint}`)
  }
}
