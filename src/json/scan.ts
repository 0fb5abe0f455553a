// One pass over the bytes of a JSON body: checks the whole grammar of RFC 8259, refuses what JSON.parse lets
// through (a member twice, bottomless nesting), and finds the places of the configured paths. It builds no
// objects and has no recursion: only spans matter, since all that is not configured is copied as it stands.

import { assert } from '../assert.ts'
import { Problem } from '../errors.ts'
import { HEX, Names, SHORT } from './member-names.ts'
import { elementPath, isCut, memberPath, type Paths, type Step } from './paths.ts'

export { memberPath, Paths } from './paths.ts'

/** What a value is. `escaped`: a string with at least one backslash. */
export const KIND = {
  string: 1,
  escaped: 2,
  number: 3,
  true: 4,
  false: 5,
  null: 6,
  object: 7,
  array: 8,
} as const
export type Kind = (typeof KIND)[keyof typeof KIND]

export type Member = { name: string; kind: Kind; start: number; end: number }

export type Scan = {
  /**
   * The top-level members in order, the first MEMBERS_MAX of them: name (unescaped), kind, and byte span
   * [start, end) of the value. Empty if the body is not an object.
   */
  readonly members: readonly Member[]
  /** Of the body itself. */
  readonly kind: Kind
  /**
   * Places in document order. The arrays are parallel and valid up to `count`. A leaf that is an object or an
   * array is a place too (its kind says so), and comes before the places inside it.
   */
  readonly count: number
  /** Byte spans [start, end) of the values, for strings including the quotes. */
  readonly start: Uint32Array
  readonly end: Uint32Array
  /** A Kind each. */
  readonly kinds: Uint8Array
  /** Index into the constructor's `paths`. */
  readonly leaf: Uint16Array
}

/** The body itself is level 1. */
export const LEVELS_MAX = 64
/** As names differ, a body with more members has some that no route knows: reading on would tell no more. */
export const MEMBERS_MAX = 1000

const PLACES_AT_FIRST = 1024
const NOTHING = new Uint8Array(0)
const NO_MOST: Most = { leaf: 0, places: Number.POSITIVE_INFINITY }
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
const BACKSLASH = 0x5c
const CLOSE_ARRAY = 0x5d
const LOWER_E = 0x65
const LOWER_F = 0x66
const LOWER_N = 0x6e
const LOWER_T = 0x74
const LOWER_U = 0x75
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

const TRUE = Buffer.from('true')
const FALSE = Buffer.from('false')
const NULL = Buffer.from('null')

// 1 for the bytes that stand for themselves in a string.
const PLAIN = new Uint8Array(256).fill(1, 0x20)
PLAIN[QUOTE] = PLAIN[BACKSLASH] = 0

/** How many places of leaf `leaf` or above there may be. */
export type Most = { readonly leaf: number; readonly places: number }

type Places = { start: Uint32Array; end: Uint32Array; kinds: Uint8Array; leaf: Uint16Array }

// Most bodies fit. Never handed out: scans copy what they found here.
const SCRATCH = places(PLACES_AT_FIRST)

/**
 * Checks the body (valid UTF-8) and finds the places of `paths`. Throws Problem('invalid-json') with the byte
 * offset, `path` (where the fault is, '' for the whole body) and `expected`; none of them repeats a value.
 * Throws Problem('too-many-values') at the first place beyond `most`: to find them all and count then would cost
 * a second for a body of 16 MiB.
 */
export function scan(body: Uint8Array, paths: Paths, most: Most = NO_MOST): Scan {
  return scanner.run(body, paths, { most })
}

/**
 * The real paths of places, like `records[2].contacts[0].phone` or `values[7]`. `places` are indices into the
 * scan of the same body with the same paths, ascending. One more pass: for errors, where few places matter.
 */
export function pathsOf(body: Uint8Array, paths: Paths, places: readonly number[]): string[] {
  const texts: string[] = []
  if (places.length > 0) scanner.run(body, paths, { wanted: places, texts })
  assert(texts.length === places.length, 'places whose paths are asked for are ascending and exist')
  return texts
}

/** The state of the scan at work. There is one of them: a scan is synchronous and calls nobody. */
class Scanner {
  private readonly names = new Names()
  private body: Uint8Array = NOTHING
  private size = 0
  private step: Step | null = null // of the value that comes next
  private escaped = false // whether the last string had a backslash
  private kind: Kind = KIND.null
  private members: Member[] = []

  // The open objects and arrays, by level from 1 up to `depth`.
  private depth = 0
  private readonly closers = new Uint8Array(LEVELS_MAX + 1) // the byte that closes it tells what it is
  private readonly starts = new Uint32Array(LEVELS_MAX + 1)
  private readonly placeOf = new Int32Array(LEVELS_MAX + 1) // -1 for none
  // Of an array it is the step of its elements.
  private readonly steps: (Step | null)[] = new Array(LEVELS_MAX + 1).fill(null)
  private readonly indexes = new Uint32Array(LEVELS_MAX + 1) // arrays: of the element at hand
  private readonly nameFrom = new Uint32Array(LEVELS_MAX + 1) // objects: the name at hand, without quotes
  private readonly nameTo = new Uint32Array(LEVELS_MAX + 1)
  private readonly serials = new Uint32Array(LEVELS_MAX + 1) // objects: unique in the body
  private objects = 0

  private count = 0
  private counted = 0 // those of `most`
  private most = NO_MOST
  private places = SCRATCH
  private wanted: readonly number[] = []
  private texts: string[] = []

  run(
    body: Uint8Array,
    paths: Paths,
    ask: { most?: Most; wanted?: readonly number[]; texts?: string[] },
  ): Scan {
    // Always a plain Uint8Array: a Buffer in between would make every access to the bytes slower.
    this.body = new Uint8Array(body.buffer, body.byteOffset, body.length)
    this.size = body.length
    this.step = paths.root
    this.depth = this.objects = this.count = this.counted = 0
    this.most = ask.most ?? NO_MOST
    this.wanted = ask.wanted ?? []
    this.texts = ask.texts ?? []
    this.names.begin(this.body)
    try {
      this.walk()
      return this.result()
    } finally {
      this.names.end()
      this.body = NOTHING
      this.members = []
      this.places = SCRATCH
      this.wanted = this.texts = []
    }
  }

  private result(): Scan {
    const { members, kind, count } = this
    if (this.places !== SCRATCH) return { members, kind, count, ...this.places }
    const start = SCRATCH.start.slice(0, count)
    const end = SCRATCH.end.slice(0, count)
    return {
      members,
      kind,
      count,
      start,
      end,
      kinds: SCRATCH.kinds.slice(0, count),
      leaf: SCRATCH.leaf.slice(0, count),
    }
  }

  private walk(): void {
    let i = this.space(0)
    while (i !== END) {
      const c = this.at(i)
      if (c === OPEN_OBJECT || c === OPEN_ARRAY) {
        this.open(i, c)
        i = this.space(i + 1)
        if (this.at(i) !== this.closers[this.depth]) {
          i = c === OPEN_OBJECT ? this.name(i, 'a member name or "}"') : i
          continue
        }
      } else i = this.scalar(i, c)
      i = this.after(i)
    }
  }

  // From behind a value to the next one, or END behind the body.
  private after(at: number): number {
    for (let i = this.space(at); ; i = this.space(i)) {
      const c = this.at(i)
      const depth = this.depth
      if (depth === 0) {
        if (c !== END) throw this.fault(i, 'the end of the body', 0)
        return END
      }
      const closer = this.closers[depth]
      if (c === COMMA) {
        i = this.space(i + 1)
        if (closer === CLOSE_OBJECT) return this.name(i, 'a member name')
        this.indexes[depth]++
        this.step = this.steps[depth]
        return i
      }
      if (c !== closer) throw this.fault(i, closer === CLOSE_OBJECT ? '"," or "}"' : '"," or "]"', depth - 1)
      i++
      this.close(i)
    }
  }

  private open(i: number, c: typeof OPEN_OBJECT | typeof OPEN_ARRAY): void {
    if (this.depth === LEVELS_MAX) throw this.tooDeep(i)
    const step = this.step
    const place = step === null || step.leaf < 0 ? -1 : this.place(step.leaf, i, i, kindOf(c))
    const depth = ++this.depth
    this.starts[depth] = i
    this.placeOf[depth] = place
    if (c === OPEN_OBJECT) {
      this.closers[depth] = CLOSE_OBJECT
      this.serials[depth] = ++this.objects
      this.steps[depth] = step
    } else {
      this.closers[depth] = CLOSE_ARRAY
      this.indexes[depth] = 0
      this.step = this.steps[depth] = step === null ? null : step.element
    }
  }

  // Behind the byte that closes.
  private close(end: number): void {
    const depth = this.depth--
    if (this.placeOf[depth] >= 0) this.places.end[this.placeOf[depth]] = end
    if (depth <= 2)
      this.outer(this.starts[depth], end, this.closers[depth] === CLOSE_OBJECT ? KIND.object : KIND.array)
  }

  // The member name at `at` and the colon; returns where its value begins.
  private name(at: number, expected: string): number {
    const depth = this.depth
    if (this.at(at) !== QUOTE) throw this.fault(at, expected, depth - 1)
    const end = this.string(at, depth - 1)
    this.nameFrom[depth] = at + 1
    this.nameTo[depth] = end - 1
    const { names } = this
    if (names.seen(depth, this.serials[depth], at + 1, end - 1, this.escaped)) throw this.twice(at)
    const parent = this.steps[depth]
    this.step = parent === null ? null : parent.child(names.bytes, names.from, names.to)
    const i = this.space(end)
    if (this.at(i) !== COLON) throw this.fault(i, '":"', depth)
    return this.space(i + 1)
  }

  private scalar(start: number, c: number): number {
    let end = start
    let kind: Kind
    if (c === QUOTE) {
      end = this.string(start, this.depth)
      kind = this.escaped ? KIND.escaped : KIND.string
    } else if (c === MINUS || (c >= ZERO && c <= NINE)) {
      end = this.number(start)
      kind = KIND.number
    } else if (c === LOWER_T) {
      end = this.literal(start, TRUE)
      kind = KIND.true
    } else if (c === LOWER_F) {
      end = this.literal(start, FALSE)
      kind = KIND.false
    } else if (c === LOWER_N) {
      end = this.literal(start, NULL)
      kind = KIND.null
    } else throw this.fault(start, 'a value', this.depth)
    const step = this.step
    if (step !== null && step.leaf >= 0) this.place(step.leaf, start, end, kind)
    if (this.depth <= 1) this.outer(start, end, kind)
    return end
  }

  // `levels` as for `fault`.
  private string(start: number, levels: number): number {
    const { body, size } = this
    this.escaped = false
    let i = start + 1
    for (;;) {
      while (i < size && PLAIN[body[i]] === 1) i++
      const c = this.at(i)
      if (c === QUOTE) return i + 1
      if (c === END) throw this.fault(i, "'\"'", levels)
      if (c !== BACKSLASH) throw this.fault(i, 'no control character in a string', levels)
      this.escaped = true
      const letter = this.at(i + 1)
      if (letter === LOWER_U) {
        for (let digit = i + 2; digit < i + 6; digit++) {
          if (digit >= size || HEX[body[digit]] < 0) throw this.fault(digit, 'a hexadecimal digit', levels)
        }
        i += 6
      } else if (letter !== END && SHORT[letter] !== 0) i += 2
      else throw this.fault(i + 1, 'an escape of JSON', levels)
    }
  }

  private number(start: number): number {
    let i = this.at(start) === MINUS ? start + 1 : start
    // Behind a leading zero no digit can follow: it would not be the comma or bracket that comes next.
    i = this.at(i) === ZERO ? i + 1 : this.digits(i)
    if (this.at(i) === DOT) i = this.digits(i + 1)
    const c = this.at(i)
    if (c === LOWER_E || c === 0x45) {
      const sign = this.at(i + 1)
      i = this.digits(sign === PLUS || sign === MINUS ? i + 2 : i + 1)
    }
    return i
  }

  private digits(start: number): number {
    const { body, size } = this
    let i = start
    while (i < size && body[i] >= ZERO && body[i] <= NINE) i++
    if (i === start) throw this.fault(i, 'a digit', this.depth)
    return i
  }

  private literal(start: number, text: Uint8Array): number {
    for (let i = 1; i < text.length; i++) {
      if (this.at(start + i) !== text[i]) throw this.fault(start + i, 'a value', this.depth)
    }
    return start + text.length
  }

  private space(start: number): number {
    const { body, size } = this
    let i = start
    while (i < size) {
      const c = body[i]
      if (c > 0x20 || (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09)) break
      i++
    }
    return i
  }

  private at(i: number): number {
    return i < this.size ? this.body[i] : END
  }

  // A value of level 0 or 1 ended: the body, or perhaps a member of it.
  private outer(start: number, end: number, kind: Kind): void {
    if (this.depth === 0) this.kind = kind
    else if (this.closers[1] === CLOSE_OBJECT && this.members.length < MEMBERS_MAX) {
      this.members.push({ name: this.nameAt(1), kind, start, end })
    }
  }

  private place(leaf: number, start: number, end: number, kind: Kind): number {
    if (leaf >= this.most.leaf && ++this.counted > this.most.places) {
      throw new Problem('too-many-values', `there are more than ${this.most.places} values or tokens`)
    }
    const index = this.count++
    if (index === this.places.start.length) this.places = grown(this.places, start / this.size)
    this.places.start[index] = start
    this.places.end[index] = end
    this.places.kinds[index] = kind
    this.places.leaf[index] = leaf
    // Past the last one wanted there is undefined, which is no index.
    if (index === this.wanted[this.texts.length]) this.texts.push(this.path(this.depth))
    return index
  }

  private nameAt(level: number): string {
    const { buffer, byteOffset } = this.body
    const from = this.nameFrom[level]
    const text = Buffer.from(buffer, byteOffset + from, this.nameTo[level] - from).toString('utf8')
    return text.includes('\\') ? JSON.parse(`"${text}"`) : text
  }

  // Of the value at hand with levels = depth, of the innermost open object or array with one less.
  private path(levels: number): string {
    let path = ''
    for (let level = 1; level <= levels && !isCut(path); level++) {
      const inObject = this.closers[level] === CLOSE_OBJECT
      path = inObject ? memberPath(path, this.nameAt(level)) : elementPath(path, this.indexes[level])
    }
    return path
  }

  private fault(at: number, expected: string, levels: number): Problem {
    const ends = at >= this.size ? 'The body ends too early,' : 'The body is not JSON'
    return new Problem('invalid-json', `${ends} at byte ${at}: expected ${expected}`, {
      path: this.path(levels),
      expected,
    })
  }

  private twice(at: number): Problem {
    return new Problem('invalid-json', `The member at byte ${at} stands twice in its object`, {
      path: this.path(this.depth),
      expected: 'each member once',
    })
  }

  private tooDeep(at: number): Problem {
    const detail = `The body nests deeper than ${LEVELS_MAX} levels at byte ${at}`
    return new Problem('invalid-json', detail, {
      path: this.path(this.depth),
      expected: `at most ${LEVELS_MAX} levels`,
    })
  }
}

const scanner = new Scanner()

function kindOf(opener: typeof OPEN_OBJECT | typeof OPEN_ARRAY): Kind {
  return opener === OPEN_OBJECT ? KIND.object : KIND.array
}

function places(size: number): Places {
  return {
    start: new Uint32Array(size),
    end: new Uint32Array(size),
    kinds: new Uint8Array(size),
    leaf: new Uint16Array(size),
  }
}

// `done`: how much of the body was read, 0 to 1. Places mostly come evenly, so this saves copies and slack.
function grown(from: Places, done: number): Places {
  const now = from.start.length
  const to = places(Math.ceil(Math.min(Math.max((now * 1.05) / done, now * 2), now * 16)))
  to.start.set(from.start)
  to.end.set(from.end)
  to.kinds.set(from.kinds)
  to.leaf.set(from.leaf)
  return to
}
