// The documented shape of each answer (docs/api.md), without a line of the product.
import type { Ask } from '../sim/judge.ts'

type Shape = (value: unknown) => boolean

const text: Shape = (value) => typeof value === 'string'
const flag: Shape = (value) => typeof value === 'boolean'
const count: Shape = (value) => Number.isSafeInteger(value) && Number(value) >= 0
const number: Shape = (value) => count(value) && value !== 0
const instant: Shape = (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value))
const orNull =
  (shape: Shape): Shape =>
  (value) =>
    value === null || shape(value)
const list =
  (shape: Shape, length?: number): Shape =>
  (value) =>
    Array.isArray(value) && value.every(shape) && (length === undefined || value.length === length)

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Exactly these members. */
const object =
  (members: Readonly<Record<string, Shape>>): Shape =>
  (value) =>
    isObject(value) &&
    Object.keys(value).length === Object.keys(members).length &&
    Object.entries(members).every(([name, shape]) => Object.hasOwn(value, name) && shape(value[name]))

const written = object({ name: text, version: number, valid_from: instant })
const ofEpoch = object({ epoch: number, opened_at: instant, closed_at: orNull(instant), tokens: count })
const line = object({
  version: number,
  valid_from: instant,
  valid_to: orNull(instant),
  key_id: text,
  request_id: text,
})

function shapeOf(asked: Ask): Shape {
  switch (asked.kind) {
    case 'tokenize':
      return object({ epoch: number, tokens: list(text, asked.values.length) })
    case 'detokenize':
      return object({ values: list(orNull(text), asked.tokens.length), not_found: list(count) })
    case 'retokenize':
      return object({
        epoch: number,
        tokens: list(orNull(text), asked.tokens.length),
        not_found: list(count),
      })
    case 'names':
      return object({ names: list(text), next: orNull(text) })
    case 'rotate':
      return object({ epoch: number, rotated: flag })
    case 'epochs':
      return object({ active: number, epochs: list(ofEpoch) })
    case 'write':
      return asked.create ? object({ secrets: list(written, asked.names.length) }) : written
    case 'read':
      return object({
        name: text,
        value: text,
        version: number,
        valid_from: instant,
        valid_to: orNull(instant),
      })
    case 'resolve':
      return object({ values: list(text, asked.refs.length) })
    case 'history':
      return object({ name: text, versions: list(line) })
  }
}

/** Of a success. */
export function hasShape(asked: Ask, json: unknown): boolean {
  return shapeOf(asked)(json)
}

/** RFC 9457, with the members of every problem. */
export function isProblem(json: unknown, status: number): boolean {
  return (
    isObject(json) &&
    text(json.type) &&
    String(json.type).startsWith('/problems/') &&
    json.status === status &&
    [json.title, json.detail, json.instance].every(text)
  )
}
