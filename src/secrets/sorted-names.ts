// Names of secrets in byte order. Lists are rare, so names are sorted on demand.
import { assert } from '../assert.ts'
import type { OwnerState } from '../state/state.ts'

export type NamesPage = { readonly prefix: string; readonly after: string; readonly limit: number }

export class SortedNames {
  readonly #sorted = new WeakMap<OwnerState, readonly string[]>()

  /** Names that begin with `prefix` and come after `after`, at most `limit`. */
  page(owner: OwnerState, { prefix, after, limit }: NamesPage): string[] {
    const names = this.#of(owner)
    const from = after >= prefix && after !== '' ? firstFrom(names, `${after}\0`) : firstFrom(names, prefix)
    const page: string[] = []
    for (let i = from; i < names.length && page.length < limit; i++) {
      if (!names[i].startsWith(prefix)) break
      page.push(names[i])
    }
    return page
  }

  /** Secrets are never removed, and a Map keeps the order of insertion: only new names have to be merged. */
  #of(owner: OwnerState): readonly string[] {
    const before = this.#sorted.get(owner) ?? []
    if (before.length === owner.secrets.size) return before
    assert(before.length < owner.secrets.size, 'a secret is never removed')
    // The order of UTF-16 units is the order of bytes: names are ASCII.
    const fresh = [...owner.secrets.keys()].slice(before.length).sort()
    const merged = merge(before, fresh)
    assert(merged.length === owner.secrets.size, 'every secret is listed once')
    this.#sorted.set(owner, merged)
    return merged
  }
}

function merge(a: readonly string[], b: readonly string[]): string[] {
  const merged: string[] = []
  let j = 0
  for (const each of a) {
    while (j < b.length && b[j] < each) merged.push(b[j++])
    merged.push(each)
  }
  while (j < b.length) merged.push(b[j++])
  return merged
}

/** Index of the first name not before `name`. */
function firstFrom(names: readonly string[], name: string): number {
  let [from, to] = [0, names.length]
  while (from < to) {
    const middle = (from + to) >>> 1
    if (names[middle] < name) from = middle + 1
    else to = middle
  }
  return from
}
