// The values of the benchmark, computed from their number: 20 million values need no memory.

/** Number of a value or token, by its place in the run. */
export type Order = (i: number) => number

export const inOrder =
  (first: number): Order =>
  (i) =>
    first + i

/** Evenly spread over 0..size-1, with repetition; the same at every call. */
export const atRandom =
  (size: number, seed = 0): Order =>
  (i) => {
    let x = Math.imul(i ^ seed, 0x9e3779b1)
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
    return Math.floor((((x ^ (x >>> 16)) >>> 0) / 0x1_0000_0000) * size)
  }

export const VALUE_BYTES = 13

/** Value `number` is 11 to 13 bytes, as `04821-99170`, `A…`, `AB…`; no two below 2^32 are the same. */
export function writeValue(out: Uint8Array, at: number, number: number): number {
  let to = at
  const prefix = number % 3
  if (prefix > 0) out[to++] = 0x41
  if (prefix > 1) out[to++] = 0x42
  const mixed = Math.imul(number, 0x9e3779b1) >>> 0
  const high = Math.floor(mixed / 100_000)
  writeFive(out, to, high)
  out[to + 5] = 0x2d
  writeFive(out, to + 6, mixed - high * 100_000)
  return to + 11
}

function writeFive(out: Uint8Array, at: number, number: number): void {
  let rest = number
  for (let i = at + 4; i >= at; i--) {
    const tenth = (rest / 10) | 0
    out[i] = 48 + rest - tenth * 10
    rest = tenth
  }
}
