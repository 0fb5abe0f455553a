// How long tokenize and detokenize may hold the event loop: large requests are computed in several turns.
import { units, type Values } from '../crypto/canonical.ts'

/** Values computed in a turn of the event loop, at about 1 µs each. */
export const VALUES_A_TURN = 20_000
/** Units of 8 bytes computed in a turn: long values cost by their length, about 10 µs a KiB. */
export const UNITS_A_TURN = (4 * 1024 * 1024) / 8

/** The end (exclusive) of a turn that begins at value `from`. */
export function turnEnd(values: Values, from: number): number {
  let to = from
  for (let used = 0; to < values.count && to - from < VALUES_A_TURN && used < UNITS_A_TURN; to++) {
    used += units(values.length[to])
  }
  return to
}
