// The form of a request: the members of a body, and its places as values or tokens.
import { InvalidValue, Values } from '../crypto/canonical.ts'
import { readTokenText } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import { KIND, type Member, type Scan } from '../json/matches.ts'
import { memberPath, type Paths } from '../json/paths.ts'
import { type NamedTokens, NO_TOKEN } from '../tokens/detokenize.ts'
import { badRequest } from './problems.ts'

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export type Limits = { readonly values: number; readonly value_bytes: number; readonly answer_bytes: number }

/** The most bytes that JSON takes for a byte of UTF-8: the escape of a control character. */
const ESCAPED_BYTES = 6
/** A token takes at most 47 bytes. */
const TOKEN_TEXT_MOST = 64

/**
 * A fault at a place of the body. To name the place takes another scan, in the thread for a large body: the
 * call asks for the path, and throws the problem.
 */
export class FaultAt extends Error {
  override readonly name = 'FaultAt'
  /** Index among the matches of the scan. */
  readonly place: number
  readonly problem: (path: string) => Problem

  constructor(place: number, problem: (path: string) => Problem) {
    super('a fault in the body')
    this.place = place
    this.problem = problem
  }
}

/** A body after its scan. */
export class Form {
  readonly body: Uint8Array
  readonly scan: Scan
  readonly paths: Paths

  /** Throws Problem invalid-request where the body is no object or has members beside `known`. */
  constructor(body: Uint8Array, paths: Paths, scanned: Scan, known: readonly string[]) {
    this.body = body
    this.paths = paths
    this.scan = scanned
    const expected = `an object with ${known.join(' or ')}`
    if (this.scan.kind !== KIND.object) throw badRequest('', expected, 'the body is not an object')
    for (const { name } of this.scan.members) {
      if (!known.includes(name))
        throw badRequest(memberPath('', name), `one of ${known.join(', ')}`, 'unknown member')
    }
  }

  member(name: string): Member | undefined {
    return this.scan.members.find((member) => member.name === name)
  }

  /** The only member present out of `names`, which exclude each other. Throws Problem invalid-request. */
  oneOf(names: readonly string[]): Member {
    const there = this.scan.members.filter((member) => names.includes(member.name))
    if (there.length !== 1) {
      throw badRequest(
        there[1]?.name ?? '',
        `exactly one of ${names.join(', ')}`,
        'the body has not exactly one of its forms',
      )
    }
    return there[0]
  }

  list(name: string): Member {
    const member = this.member(name)
    if (member?.kind !== KIND.array) throw badRequest(name, 'an array', `${name} is not an array`)
    return member
  }

  flag(name: string): boolean {
    const kind = this.member(name)?.kind
    if (kind === undefined || kind === KIND.false) return false
    if (kind !== KIND.true) throw badRequest(name, 'true or false', `${name} is not a boolean`)
    return true
  }

  /** The text of a string place; undefined where its UTF-8 takes more than `most` bytes for certain. */
  string(place: number, most: number): string | undefined {
    const { start, end } = this.scan
    if (end[place] - start[place] > most * ESCAPED_BYTES + 2) return undefined
    return JSON.parse(decoder.decode(this.body.subarray(start[place], end[place])))
  }
}

/**
 * The values at the places of leaf `leaf` or above; `index[i]` is the value of the i-th of them, -1 for a
 * null. Throws FaultAt: Problem not-a-scalar, invalid-value.
 */
export function readValues(
  form: Form,
  limits: Limits,
  leaf: number,
): { places: number[]; values: Values; index: Int32Array } {
  const { body } = form
  const { count, kinds, leaf: leaves, start, end } = form.scan
  const places: number[] = []
  for (let i = 0; i < count; i++) if (leaves[i] >= leaf) places.push(i)
  const values = new Values(places.length, places.length * 24)
  const index = new Int32Array(places.length)
  for (let n = 0; n < places.length; n++) {
    const i = places[n]
    index[n] = values.count
    try {
      switch (kinds[i]) {
        case KIND.string:
          values.pushUtf8(body, start[i] + 1, end[i] - 1, limits.value_bytes)
          break
        case KIND.escaped:
          values.pushString(form.string(i, limits.value_bytes) ?? tooLong(limits), limits.value_bytes)
          break
        case KIND.number:
          values.pushNumber(Number(Buffer.from(body.subarray(start[i], end[i])).toString('latin1')))
          break
        case KIND.true:
        case KIND.false:
          values.pushBoolean(kinds[i] === KIND.true)
          break
        case KIND.null:
          index[n] = -1
          break
        default:
          throw new FaultAt(i, notAScalar)
      }
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error
      const reason = error.message
      throw new FaultAt(i, (path) => new Problem('invalid-value', reason, { path, reason }))
    }
  }
  return { places, values, index }
}

function notAScalar(path: string): Problem {
  const reason = 'only strings, numbers, booleans and null have tokens'
  return new Problem('not-a-scalar', 'an object or an array where a value belongs', { path, reason })
}

function tooLong({ value_bytes: most }: Limits): never {
  throw new InvalidValue(`the string takes more than ${most} bytes of UTF-8`)
}

/**
 * The tokens at the given places. `strict`: every place but null has a token, as text; else a place with
 * another content has NO_TOKEN, too. Throws FaultAt: Problem invalid-request.
 */
export function readTokens(form: Form, places: readonly number[], strict: boolean): NamedTokens {
  const count = places.length
  const epochs = new Float64Array(count)
  const bodies = new Uint8Array(count * 16)
  const checks = new Uint8Array(count * 4)
  const { kinds, start, end } = form.scan
  for (let n = 0; n < count; n++) {
    const i = places[n]
    const kind = kinds[i]
    if (kind === KIND.string)
      epochs[n] = readTokenText(form.body, start[i] + 1, end[i] - 1, bodies, checks, n)
    else if (kind === KIND.escaped) {
      const text = Buffer.from(form.string(i, TOKEN_TEXT_MOST) ?? '', 'utf8')
      epochs[n] = readTokenText(text, 0, text.length, bodies, checks, n)
    } else if (strict && kind !== KIND.null) {
      throw new FaultAt(i, (path) => badRequest(path, 'a token as a string, or null', 'a token is a string'))
    }
    if (kind === KIND.null || (!strict && epochs[n] === 0)) epochs[n] = NO_TOKEN
  }
  return { count, epochs, bodies, checks }
}
