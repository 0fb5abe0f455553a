// Bytes read and written a word at a time: a file has millions of short runs of bytes.

/** The same memory twice. A plain Uint8Array: every access to the bytes of a Buffer is slower. */
export class Bytes {
  readonly bytes: Uint8Array
  readonly view: DataView

  constructor({ buffer, byteOffset, length }: Uint8Array) {
    this.bytes = new Uint8Array(buffer, byteOffset, length)
    this.view = new DataView(buffer, byteOffset, length)
  }
}

const WORD = 4
const FIRST_BYTES = 4 * 1024
/** A loop over so many bytes costs less than a call. */
const SHORT = 96

/** Copies bytes to `at`. Returns the end of the copy. */
export function copyBytes(from: Bytes, start: number, end: number, to: Bytes, at: number): number {
  const size = end - start
  if (size > SHORT) {
    to.bytes.set(from.bytes.subarray(start, end), at)
    return at + size
  }
  // Variables: else V8 calls the methods of a DataView instead of inlining them.
  const source = from.view
  const target = to.view
  const last = size - WORD
  for (let i = 0; i < last; i += WORD) {
    const word = source.getInt32(start + i, true)
    target.setInt32(at + i, word, true)
  }
  if (last >= 0) {
    // The last word overlaps the word before.
    const word = source.getInt32(start + last, true)
    target.setInt32(at + last, word, true)
  } else for (let i = 0; i < size; i++) to.bytes[at + i] = from.bytes[start + i]
  return at + size
}

/** Whether bytes from `start` to `end` equal the bytes from `otherStart` on. */
export function isEqual(one: Bytes, start: number, end: number, other: Bytes, otherStart: number): boolean {
  const size = end - start
  const last = size - WORD
  for (let i = 0; i < last; i += WORD)
    if (one.view.getInt32(start + i, true) !== other.view.getInt32(otherStart + i, true)) return false
  if (last >= 0) return one.view.getInt32(end - WORD, true) === other.view.getInt32(otherStart + last, true)
  for (let i = 0; i < size; i++) if (one.bytes[start + i] !== other.bytes[otherStart + i]) return false
  return true
}

/** Bytes one after another, in memory that doubles. */
export class ByteList {
  /** The bytes up to `size`, and free bytes behind. Another object after each growth. */
  memory: Bytes
  /** Who sets a smaller size drops bytes. */
  size = 0

  /** Has room for so many bytes at once. */
  constructor(bytes = FIRST_BYTES) {
    this.memory = new Bytes(new Uint8Array(bytes))
  }

  /** Returns the new size. */
  append(from: Bytes, start: number, end: number): number {
    this.reserve(end - start)
    this.size = copyBytes(from, start, end, this.memory, this.size)
    return this.size
  }

  /** UTF-8. Returns the new size. */
  appendText(text: string): number {
    this.reserve(text.length * 3)
    this.size += this.slice(0, this.memory.bytes.length).write(text, this.size)
    return this.size
  }

  appendByte(byte: number): void {
    this.reserve(1)
    this.memory.bytes[this.size++] = byte
  }

  /** Bytes [start, end), valid until more bytes are appended or dropped. */
  slice(start: number, end: number): Buffer {
    // Its memory is made here, and is never shared with threads.
    const { buffer } = this.memory.bytes
    return Buffer.from(buffer as ArrayBuffer, start, end - start)
  }

  /** Makes room for more bytes. */
  reserve(more: number): void {
    const { bytes } = this.memory
    if (this.size + more <= bytes.length) return
    const grown = new Uint8Array(Math.max(bytes.length * 2, this.size + more))
    grown.set(bytes.subarray(0, this.size))
    this.memory = new Bytes(grown)
  }
}
