// The versions of a secret as intervals of time.
import { assert } from '../assert.ts'
import type { VersionState } from '../state/state.ts'

export type Interval = {
  readonly version: number
  /** Milliseconds since 1970; half-open. */
  readonly validFrom: number
  /** null where no later version is known here. */
  readonly validTo: number | null
}

/**
 * Selects the latest version, a version by its number, or the version valid at an instant (milliseconds since
 * 1970).
 */
export type VersionSelector = { readonly version?: number; readonly at?: number }

/** The interval of the selected version; undefined where there is no such version. */
export function intervalOf(
  versions: readonly VersionState[],
  { version, at }: VersionSelector,
): Interval | undefined {
  let wanted = version ?? versions.length
  if (at !== undefined) wanted = versionAt(versions, at)
  const found = versions[wanted - 1]
  if (!found) return undefined
  const validTo = versions[wanted]?.validFrom ?? null
  assert(validTo === null || validTo > found.validFrom, 'versions of a secret follow one another in time')
  return { version: wanted, validFrom: found.validFrom, validTo }
}

/**
 * The number of the last version that begins at `at` or before; 0 where there is none. `valid_from` ascends.
 */
function versionAt(versions: readonly VersionState[], at: number): number {
  let [from, to] = [0, versions.length]
  while (from < to) {
    const middle = (from + to) >>> 1
    if (versions[middle].validFrom <= at) from = middle + 1
    else to = middle
  }
  return from
}
