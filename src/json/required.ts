// Fields that every record must have, by `require` of a request: a scalar other than null at each place.
import { KIND, type Scan } from './matches.ts'
import { memberPath, Paths } from './paths.ts'
import { pathsOf, scan } from './scan.ts'

/** A part of the required fields: a member, or (null) the elements of a list. */
type Place = {
  readonly name: string | null
  /** Index in the paths, and in the list of places. */
  readonly leaf: number
  /** Empty where a field ends. */
  readonly inner: Place[]
}

/** The first place where something is missing: in the match, what the names say (null: the elements). */
type Gap = { readonly match: number; readonly missing: readonly (string | null)[] }

/**
 * The path where a record of a body first lacks a field of `fields`, each as configured and once; undefined:
 * no record lacks any. A scan of its own: other requests need no places on the way to a field. Throws the
 * problems of `scan`.
 */
export function gapIn(body: Uint8Array, fields: readonly string[]): string | undefined {
  const required = new Required(fields)
  const gap = required.gap(scan(body, required.paths))
  if (gap === undefined) return undefined
  const [path] = pathsOf(body, required.paths, [gap.match])
  return pathOfGap(path, gap)
}

/** The places of required fields, the places on their way included. */
class Required {
  /** For a scan of the body. */
  readonly paths: Paths
  readonly #places: readonly Place[]

  /** Fields as configured: `patient.ssn`, `contacts[].phone`, each once. */
  constructor(fields: readonly string[]) {
    const places: Place[] = [{ name: null, leaf: 0, inner: [] }]
    const paths = ['records[]']
    for (const field of fields) {
      let place = places[0]
      let path = paths[0]
      for (const [part] of field.matchAll(/\[\]|[^.[\]]+/g)) {
        const name = part === '[]' ? null : part
        path += name === null ? '[]' : `.${name}`
        let next = place.inner.find((each) => each.name === name)
        if (!next) {
          next = { name, leaf: paths.length, inner: [] }
          place.inner.push(next)
          places.push(next)
          paths.push(path)
        }
        place = next
      }
    }
    this.paths = new Paths(paths)
    this.#places = places
  }

  /** `scan`: of a body with records, by `paths`. An object or an array where a field ends is no gap. */
  gap({ count, leaf, kinds, start, end }: Scan): Gap | undefined {
    const places = this.#places
    /** The match around the last match of each place. */
    const around = new Int32Array(places.length).fill(-1)
    /** The matches around the current one that are no ends of fields. */
    const open: number[] = []
    const lack = (match: number): Gap | undefined => {
      const lacking = places[leaf[match]].inner.find((inner) => around[inner.leaf] !== match)
      return lacking && { match, missing: wayFrom(lacking) }
    }
    for (let i = 0; i <= count; i++) {
      while (open.length > 0 && (i === count || end[open[open.length - 1]] <= start[i])) {
        const gap = lack(open.pop() ?? 0)
        if (gap) return gap
      }
      if (i === count) return undefined
      around[leaf[i]] = open.at(-1) ?? -1
      if (places[leaf[i]].inner.length > 0) open.push(i)
      else if (kinds[i] === KIND.null) return { match: i, missing: [] }
    }
    return undefined
  }
}

/** The names from a place that is missing to the end of a field, or to a list without elements. */
function wayFrom(lacking: Place): (string | null)[] {
  const names: (string | null)[] = []
  for (let place: Place | undefined = lacking; place !== undefined; place = place.inner[0]) {
    names.push(place.name)
    if (place.name === null) break
  }
  return names
}

/** `path`: of the match. */
function pathOfGap(path: string, { missing }: Gap): string {
  let text = path
  for (const name of missing) text = name === null ? `${text}[]` : memberPath(text, name)
  return text
}
