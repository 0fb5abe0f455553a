// Pages: up to PAGE_MAPPINGS mappings stored together, under the replica's own page number. A page is
//
//   crc32 u32 · table u32 · count u8 · sizes (u16 each, units of 8 bytes) ·
//   bodies (16 bytes each) · sealed values
//
// little-endian, with zeros before the bodies: bodies begin at a multiple of 4. `table` is the replica's own
// number of an owner and epoch. The checksum covers the page number and all bytes after itself.
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import type { Segment } from '../state/segment.ts'

export const PAGE_MAPPINGS = 32
const HEAD = 9

/** Offset of the first body in a page of `count` mappings. */
export function bodiesAt(count: number): number {
  return (HEAD + 2 * count + 3) & ~3
}

/** The pages of a segment in order, numbered from `first`. */
export function encodePages(segment: Segment, table: number, first: number): Buffer[] {
  assert(segment.count >= 1, 'a segment has at least one mapping')
  const pages: Buffer[] = []
  let sealedAt = 0
  for (let from = 0; from < segment.count; from += PAGE_MAPPINGS) {
    const count = Math.min(PAGE_MAPPINGS, segment.count - from)
    let units = 0
    for (let i = 0; i < count; i++) units += segment.sizes[from + i]
    const bodies = bodiesAt(count)
    const page = Buffer.allocUnsafe(bodies + 16 * count + 8 * units)
    page.writeUInt32LE(table, 4)
    page[8] = count
    page.fill(0, HEAD + 2 * count, bodies)
    for (let i = 0; i < count; i++) page.writeUInt16LE(segment.sizes[from + i], HEAD + 2 * i)
    page.set(segment.bodies.subarray(from * 16, (from + count) * 16), bodies)
    page.set(segment.sealed.subarray(sealedAt, sealedAt + 8 * units), bodies + 16 * count)
    sealedAt += 8 * units
    page.writeUInt32LE(pageChecksum(page, page.length, first + pages.length), 0)
    pages.push(page)
  }
  assert(sealedAt === segment.sealed.length, 'the pages of a segment hold all its sealed values')
  return pages
}

function pageChecksum(page: Buffer, length: number, number: number): number {
  return crc32(page.subarray(4, length), number)
}

/**
 * Whether the page is whole and has the number. `length` is given because lmdb's fast buffers are longer than
 * a page.
 */
export function pageIsWhole(page: Buffer, length: number, number: number): boolean {
  if (length < HEAD || page.readUInt32LE(0) !== pageChecksum(page, length, number)) return false
  const count = page[8]
  if (count < 1 || count > PAGE_MAPPINGS || length < bodiesAt(count)) return false
  let units = 0
  for (let i = 0; i < count; i++) units += page.readUInt16LE(HEAD + 2 * i)
  return length === bodiesAt(count) + 16 * count + 8 * units
}

/** The table's number in a page. */
export function pageTable(page: Buffer): number {
  return page.readUInt32LE(4)
}

/** Size of a slot's sealed value in units of 8 bytes. */
export function sizeOf(page: Buffer, slot: number): number {
  return page[HEAD + 2 * slot] | (page[HEAD + 2 * slot + 1] << 8)
}
