// A value with its path in a configuration file, and readers that collect every fault.
//
// After a fault a reader returns an empty value of its type, and reading goes on; the caller discards the
// result when there is a fault. A message says the type of a value and never the value.

/**
 * `path` is `''` for the whole file, else like `owners[1].keys[0].sha256`; `message` says how to correct the
 * file.
 */
export type ConfigFault = { readonly path: string; readonly message: string }

/** Replaces a value whose fault is noted already: readers add no second fault. */
export const REFUSED = Symbol('refused')

/**
 * The path of a member. A long or odd name is shown by its position only: the name may be a misplaced secret.
 */
export function configPath(path: string, name: string, index: number): string {
  const shown = /^[A-Za-z_][A-Za-z0-9_-]{0,23}$/.test(name) ? name : `(member ${index + 1})`
  return path === '' ? shown : `${path}.${shown}`
}

/** Neither a list nor null. */
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

export class ConfigValue {
  readonly path: string
  readonly #value: unknown
  readonly #faults: ConfigFault[]

  /** `value` is plain data: strings, numbers, booleans, null, arrays, objects; undefined where absent. */
  constructor(value: unknown, path: string, faults: ConfigFault[]) {
    this.#value = value
    this.path = path
    this.#faults = faults
  }

  /** True where the file has a value here, valid or not. */
  get given(): boolean {
    return this.#value !== undefined
  }

  fault(message: string): void {
    this.#faults.push({ path: this.path, message })
  }

  /**
   * The named members. Other members are faults. A value that is not a mapping is one fault, without faults
   * below.
   */
  members<Name extends string>(...names: Name[]): Record<Name, ConfigValue> {
    const value = isMapping(this.#value) ? this.#value : undefined
    if (value === undefined) this.#mismatch(`a mapping with ${names.join(', ')}`)
    const known: ReadonlySet<string> = new Set(names)
    for (const [index, name] of Object.keys(value ?? {}).entries()) {
      if (known.has(name)) continue
      const message = `unknown member; those known here are ${names.join(', ')}: correct or remove it`
      this.#faults.push({ path: configPath(this.path, name, index), message })
    }
    const values = names.map((name, index) => {
      const path = configPath(this.path, name, index)
      const own = value !== undefined && Object.hasOwn(value, name)
      const inner = own ? value[name] : value === undefined ? REFUSED : undefined
      return [name, new ConfigValue(inner, path, this.#faults)] as const
    })
    // Object.fromEntries forgets the names' type; they are exactly `names`.
    return Object.fromEntries(values) as Record<Name, ConfigValue>
  }

  /** A mapping of any members. */
  mapping(): Readonly<Record<string, unknown>> {
    if (isMapping(this.#value)) return this.#value
    this.#mismatch('a mapping')
    return {}
  }

  /** The elements, at least `least`; `expected` describes the list, as in `a list of field paths`. */
  list(expected: string, least = 0): readonly ConfigValue[] {
    if (!Array.isArray(this.#value)) {
      this.#mismatch(expected)
      return []
    }
    if (this.#value.length < least) this.fault(`expected ${expected}, found an empty list`)
    return this.#value.map((inner: unknown, i) => new ConfigValue(inner, `${this.path}[${i}]`, this.#faults))
  }

  /** Text for which `accept` returns true; '' after a fault. */
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

  /** A whole number from `least` to `max`; 0 after a fault. */
  whole(least: number, max: number): number {
    const value = this.#value
    const expected = `a whole number from ${least} to ${max}`
    if (typeof value !== 'number') {
      this.#mismatch(expected)
      return 0
    }
    if (Number.isInteger(value) && value >= least && value <= max) return value
    this.fault(`expected ${expected}, found another number`)
    return 0
  }

  /** A positive size: bytes, or a text with a unit, as `10 GiB`; 0 after a fault. */
  bytes(): number {
    const value = this.#value
    const expected = 'bytes, a whole number from 1 to 2^53 - 1, or a number with KiB, MiB or GiB, as 10 GiB'
    const bytes = typeof value === 'number' ? value : typeof value === 'string' ? sizeOf(value) : undefined
    if (bytes === undefined) {
      this.#mismatch(expected)
      return 0
    }
    if (Number.isSafeInteger(bytes) && bytes > 0) return bytes
    this.fault(`expected ${expected}, found ${typeof value === 'number' ? 'another number' : 'other text'}`)
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

const UNITS: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

/** Bytes of a number with a unit, rounded down; NaN for another text. */
function sizeOf(text: string): number {
  const [, number, unit] = /^(\d{1,16}(?:\.\d{1,9})?) ?(KiB|MiB|GiB)$/.exec(text) ?? []
  return unit === undefined ? Number.NaN : Math.floor(Number(number) * UNITS[unit])
}

/** Adds a fault to every repetition of a text. '' stands for a faulty value and is skipped. */
export class UniqueTexts {
  readonly #paths = new Map<string, string>()

  check(text: string, value: ConfigValue, advice: string): void {
    const first = this.#paths.get(text)
    if (first !== undefined) value.fault(`the same as ${first}; ${advice}`)
    else if (text !== '') this.#paths.set(text, value.path)
  }
}
