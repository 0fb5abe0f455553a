// One pass over the bytes of a JSON body: checks the whole grammar of RFC 8259, refuses two faults that
// JSON.parse lets through (a member twice, nesting without limit), and finds the values at the configured
// paths. The scan builds no objects and does not recurse: only byte spans matter, since all other bytes of
// the body are copied unchanged.
import { assert } from '../assert.ts'
import { Problem } from '../errors.ts'
import { BACKSLASH, HEX_VALUE, LOWER_U, SHORT_ESCAPE } from './escapes.ts'
import {
  copyOf,
  grown,
  KIND,
  type Kind,
  type Member,
  matchesOf,
  type Scan,
  type ScanLimit,
  UNLIMITED,
} from './matches.ts'
import { MemberNames } from './member-names.ts'
import { elementPath, isCut, memberPath, type Paths, type Step } from './paths.ts'

/** The body itself is level 1. */
export const LEVELS_MAX = 64
/** Names differ, so some of the first 1,000 are unknown names: the rest need not be listed. */
export const MEMBERS_MAX = 1000

const FIRST_MATCHES = 1024
const NOTHING = new Uint8Array(0)
const END = -1

const QUOTE = 0x22
const PLUS = 0x2b
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
const LOWER_E = 0x65
const LOWER_F = 0x66
const LOWER_N = 0x6e
const LOWER_T = 0x74
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

const TRUE = Buffer.from('true')
const FALSE = Buffer.from('false')
const NULL = Buffer.from('null')

/** 1 for the bytes that need no escape in a string. */
const PLAIN = new Uint8Array(256).fill(1, 0x20)
PLAIN[QUOTE] = PLAIN[BACKSLASH] = 0

/** Enough for most bodies. Stays here: a scan copies its matches out. */
const SCRATCH = matchesOf(FIRST_MATCHES)

/**
 * Checks the body (valid UTF-8) and finds the values at `paths`. Throws Problem invalid-json with the byte
 * offset, `path` (of the fault, '' for the whole body) and `expected`; none of the three repeats a value.
 * Throws Problem too-many-values at the first match beyond `limit`: to find all and count then takes a second
 * for 16 MiB.
 */
export function scan(body: Uint8Array, paths: Paths, limit: ScanLimit = UNLIMITED): Scan {
  return scanner.run(body, paths, { limit, wanted: [], texts: [] })
}

/**
 * The real paths of matches, like `records[2].contacts[0].phone` or `values[7]`. `wanted` are ascending
 * indices into the scan of the same body with the same paths and limit. Another pass: for errors, where few
 * matches are asked for.
 */
export function pathsOf(
  body: Uint8Array,
  paths: Paths,
  wanted: readonly number[],
  limit: ScanLimit = UNLIMITED,
): string[] {
  const texts: string[] = []
  if (wanted.length > 0) scanner.run(body, paths, { limit, wanted, texts })
  assert(texts.length === wanted.length, 'indices of matches are ascending, and of the same scan')
  return texts
}

type Order = {
  readonly limit: ScanLimit
  /** Matches whose paths are written to `texts`. */
  readonly wanted: readonly number[]
  readonly texts: string[]
}

/** The state of the scan at work. One object serves all scans: a scan is synchronous and calls nobody. */
class Scanner {
  readonly #names = new MemberNames()
  #body: Uint8Array = NOTHING
  #size = 0
  #step: Step | null = null // of the next value
  #escaped = false // whether the last string had a backslash
  #kind: Kind = KIND.null
  #members: Member[] = []

  // The open objects and arrays, by level from 1 up to `depth`.
  #depth = 0
  readonly #closers = new Uint8Array(LEVELS_MAX + 1) // the closing byte: of an object or of an array
  readonly #starts = new Uint32Array(LEVELS_MAX + 1)
  readonly #matchOf = new Int32Array(LEVELS_MAX + 1) // index of the match, or -1
  readonly #steps: (Step | null)[] = new Array(LEVELS_MAX + 1).fill(null) // arrays: of the elements
  readonly #indexes = new Uint32Array(LEVELS_MAX + 1) // arrays: of the current element
  readonly #nameFrom = new Uint32Array(LEVELS_MAX + 1) // objects: the current name, without quotes
  readonly #nameTo = new Uint32Array(LEVELS_MAX + 1)
  readonly #serials = new Uint32Array(LEVELS_MAX + 1) // objects: unique in the body
  #objects = 0
  #count = 0
  #limited = 0 // matches towards the limit
  #before = 0 // other matches, listed or not
  #countedObjects = 0
  #limit = UNLIMITED
  #matches = SCRATCH
  #wanted: readonly number[] = []
  #texts: string[] = []

  run(body: Uint8Array, paths: Paths, { limit, wanted, texts }: Order): Scan {
    // Always a plain Uint8Array: every access to the bytes of a Buffer is slower.
    this.#body = new Uint8Array(body.buffer, body.byteOffset, body.length)
    this.#size = body.length
    this.#step = paths.root
    this.#depth = this.#objects = this.#count = 0
    this.#limited = this.#before = this.#countedObjects = 0
    this.#limit = limit
    this.#wanted = wanted
    this.#texts = texts
    this.#names.begin(this.#body)
    try {
      this.#walk()
      return this.#result()
    } finally {
      this.#names.end()
      this.#body = NOTHING
      this.#members = []
      this.#matches = SCRATCH
      this.#wanted = this.#texts = []
    }
  }

  #result(): Scan {
    const matches = this.#matches === SCRATCH ? copyOf(SCRATCH, this.#count) : this.#matches
    const [count, objects] = [this.#count, this.#countedObjects]
    return { members: this.#members, kind: this.#kind, count, objects, ...matches }
  }

  #walk(): void {
    let i = this.#space(0)
    while (i !== END) {
      const c = this.#at(i)
      if (c === OPEN_OBJECT || c === OPEN_ARRAY) {
        this.#open(i, c)
        i = this.#space(i + 1)
        if (this.#at(i) !== this.#closers[this.#depth]) {
          i = c === OPEN_OBJECT ? this.#name(i, 'a member name or "}"') : i
          continue
        }
      } else i = this.#scalar(i, c)
      i = this.#after(i)
    }
  }

  /** Takes the end of a value. Returns the start of the next value, or END behind the body. */
  #after(at: number): number {
    for (let i = this.#space(at); ; i = this.#space(i)) {
      const c = this.#at(i)
      const depth = this.#depth
      if (depth === 0) {
        if (c !== END) throw this.#fault(i, 'the end of the body', 0)
        return END
      }
      const closer = this.#closers[depth]
      if (c === COMMA) {
        i = this.#space(i + 1)
        if (closer === CLOSE_OBJECT) return this.#name(i, 'a member name')
        this.#indexes[depth]++
        this.#step = this.#steps[depth]
        return i
      }
      if (c !== closer) throw this.#fault(i, closer === CLOSE_OBJECT ? '"," or "}"' : '"," or "]"', depth - 1)
      i++
      this.#close(i)
    }
  }

  #open(i: number, c: typeof OPEN_OBJECT | typeof OPEN_ARRAY): void {
    if (this.#depth === LEVELS_MAX) throw this.#tooDeep(i)
    const step = this.#step
    const kind = c === OPEN_OBJECT ? KIND.object : KIND.array
    const match = step === null || step.leaf < 0 ? -1 : this.#match(step.leaf, i, i, kind)
    const depth = ++this.#depth
    this.#starts[depth] = i
    this.#matchOf[depth] = match
    if (c === OPEN_OBJECT) {
      this.#closers[depth] = CLOSE_OBJECT
      this.#serials[depth] = ++this.#objects
      this.#steps[depth] = step
    } else {
      this.#closers[depth] = CLOSE_ARRAY
      this.#indexes[depth] = 0
      this.#step = this.#steps[depth] = step === null ? null : step.element
    }
  }

  /** `end` is behind the closing byte. */
  #close(end: number): void {
    const depth = this.#depth--
    if (this.#matchOf[depth] >= 0) this.#matches.end[this.#matchOf[depth]] = end
    if (depth <= 2)
      this.#outer(this.#starts[depth], end, this.#closers[depth] === CLOSE_OBJECT ? KIND.object : KIND.array)
  }

  /** Reads the member name at `at` and the colon. Returns the start of the value. */
  #name(at: number, expected: string): number {
    const depth = this.#depth
    if (this.#at(at) !== QUOTE) throw this.#fault(at, expected, depth - 1)
    const end = this.#string(at, depth - 1)
    this.#nameFrom[depth] = at + 1
    this.#nameTo[depth] = end - 1
    const names = this.#names
    if (names.seen(depth, this.#serials[depth], at + 1, end - 1, this.#escaped)) throw this.#twice(at)
    const parent = this.#steps[depth]
    this.#step = parent === null ? null : (parent.child(names.bytes, names.from, names.to) ?? parent.others)
    const i = this.#space(end)
    if (this.#at(i) !== COLON) throw this.#fault(i, '":"', depth)
    return this.#space(i + 1)
  }

  #scalar(start: number, c: number): number {
    let end = start
    let kind: Kind
    if (c === QUOTE) {
      end = this.#string(start, this.#depth)
      kind = this.#escaped ? KIND.escaped : KIND.string
    } else if (c === MINUS || (c >= ZERO && c <= NINE)) {
      end = this.#number(start)
      kind = KIND.number
    } else if (c === LOWER_T) {
      end = this.#literal(start, TRUE)
      kind = KIND.true
    } else if (c === LOWER_F) {
      end = this.#literal(start, FALSE)
      kind = KIND.false
    } else if (c === LOWER_N) {
      end = this.#literal(start, NULL)
      kind = KIND.null
    } else throw this.#fault(start, 'a value', this.#depth)
    const step = this.#step
    if (step !== null && step.leaf >= 0) this.#match(step.leaf, start, end, kind)
    if (this.#depth <= 1) this.#outer(start, end, kind)
    return end
  }

  /** Returns the end of the string. `levels` as for `#path`. */
  #string(start: number, levels: number): number {
    const body = this.#body
    const size = this.#size
    this.#escaped = false
    let i = start + 1
    for (;;) {
      while (i < size && PLAIN[body[i]] === 1) i++
      const c = this.#at(i)
      if (c === QUOTE) return i + 1
      if (c === END) throw this.#fault(i, "'\"'", levels)
      if (c !== BACKSLASH) throw this.#fault(i, 'no control character in a string', levels)
      this.#escaped = true
      const letter = this.#at(i + 1)
      if (letter === LOWER_U) {
        for (let digit = i + 2; digit < i + 6; digit++) {
          if (digit >= size || HEX_VALUE[body[digit]] < 0)
            throw this.#fault(digit, 'a hexadecimal digit', levels)
        }
        i += 6
      } else if (letter !== END && SHORT_ESCAPE[letter] !== 0) i += 2
      else throw this.#fault(i + 1, 'an escape of JSON', levels)
    }
  }

  #number(start: number): number {
    let i = this.#at(start) === MINUS ? start + 1 : start
    // A digit behind a leading zero is refused later: a comma or a bracket must come next.
    i = this.#at(i) === ZERO ? i + 1 : this.#digits(i)
    if (this.#at(i) === DOT) i = this.#digits(i + 1)
    const c = this.#at(i)
    if (c === LOWER_E || c === 0x45) {
      const sign = this.#at(i + 1)
      i = this.#digits(sign === PLUS || sign === MINUS ? i + 2 : i + 1)
    }
    return i
  }

  #digits(start: number): number {
    const body = this.#body
    const size = this.#size
    let i = start
    while (i < size && body[i] >= ZERO && body[i] <= NINE) i++
    if (i === start) throw this.#fault(i, 'a digit', this.#depth)
    return i
  }

  #literal(start: number, text: Uint8Array): number {
    for (let i = 1; i < text.length; i++) {
      if (this.#at(start + i) !== text[i]) throw this.#fault(start + i, 'a value', this.#depth)
    }
    return start + text.length
  }

  #space(start: number): number {
    const body = this.#body
    const size = this.#size
    let i = start
    while (i < size) {
      const c = body[i]
      if (c > 0x20 || (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09)) break
      i++
    }
    return i
  }

  #at(i: number): number {
    return i < this.#size ? this.#body[i] : END
  }

  /** Takes the end of a value of level 0 or 1: of the body, of a member, or of an element. */
  #outer(start: number, end: number, kind: Kind): void {
    if (this.#depth === 0) this.#kind = kind
    else if (this.#closers[1] === CLOSE_OBJECT && this.#members.length < MEMBERS_MAX) {
      this.#members.push({ name: this.#nameAt(1), kind, start, end })
    }
  }

  /** Returns the index of the match, or -1 where the match is not listed. */
  #match(leaf: number, start: number, end: number, kind: Kind): number {
    if (leaf < this.#limit.leaf) {
      if (kind === KIND.object && leaf === this.#limit.counted) {
        this.#countedObjects++
        return -1
      }
      if (this.#limit.before !== undefined && ++this.#before > this.#limit.before) return -1
    } else if (++this.#limited > this.#limit.matches) {
      throw new Problem('too-many-values', `there are more than ${this.#limit.matches} ${this.#limit.what}`)
    }
    const index = this.#count++
    if (index === this.#matches.start.length) this.#matches = grown(this.#matches, start / this.#size)
    this.#matches.start[index] = start
    this.#matches.end[index] = end
    this.#matches.kinds[index] = kind
    this.#matches.leaf[index] = leaf
    // Behind the last wanted index stands undefined, which equals no index.
    if (index === this.#wanted[this.#texts.length]) this.#texts.push(this.#path(this.#depth))
    return index
  }

  #nameAt(level: number): string {
    const { buffer, byteOffset } = this.#body
    const from = this.#nameFrom[level]
    const text = Buffer.from(buffer, byteOffset + from, this.#nameTo[level] - from).toString('utf8')
    return text.includes('\\') ? JSON.parse(`"${text}"`) : text
  }

  /** The path of the current value (levels = depth), or of the innermost open object or array (depth - 1). */
  #path(levels: number): string {
    let path = ''
    for (let level = 1; level <= levels && !isCut(path); level++) {
      const inObject = this.#closers[level] === CLOSE_OBJECT
      path = inObject ? memberPath(path, this.#nameAt(level)) : elementPath(path, this.#indexes[level])
    }
    return path
  }

  #fault(at: number, expected: string, levels: number): Problem {
    const ends = at >= this.#size ? 'The body ends too early,' : 'The body is not JSON'
    return new Problem('invalid-json', `${ends} at byte ${at}: expected ${expected}`, {
      path: this.#path(levels),
      expected,
    })
  }

  #twice(at: number): Problem {
    return new Problem('invalid-json', `The member at byte ${at} stands twice in its object`, {
      path: this.#path(this.#depth),
      expected: 'each member once',
    })
  }

  #tooDeep(at: number): Problem {
    const detail = `The body nests deeper than ${LEVELS_MAX} levels at byte ${at}`
    return new Problem('invalid-json', detail, {
      path: this.#path(this.#depth),
      expected: `at most ${LEVELS_MAX} levels`,
    })
  }
}

const scanner = new Scanner()
