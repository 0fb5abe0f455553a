// Where the bytes of a file come from, and the memory that they are read into: used again after the pieces in
// it are written, else every megabyte of a file is garbage to collect.

export type Source = {
  /** Reads bytes into the memory. Returns their number; 0 at the end. */
  read(into: Uint8Array): Promise<number>
}

/** The bytes of the chunks of a stream. */
export function sourceOf(stream: AsyncIterable<Uint8Array>): Source {
  const chunks = stream[Symbol.asyncIterator]()
  let rest: Uint8Array = new Uint8Array(0)
  return {
    read: async (into) => {
      while (rest.length === 0) {
        const { value, done } = await chunks.next()
        if (done) return 0
        rest = value
      }
      const size = Math.min(rest.length, into.length)
      into.set(rest.subarray(0, size))
      rest = rest.subarray(size)
      return size
    },
  }
}

const BLOCK_BYTES = 1024 * 1024
/** With less room, the rest moves to another block. */
const ROOM_BYTES = 128 * 1024
const FREE_BLOCKS = 64

/** Memory, and how many hold it: pieces that are not written yet, and the reader. */
export type Block = { readonly bytes: Buffer; holders: number }

/** Reads a source; its rest is what was read and not taken. */
export class Reader {
  readonly #source: Source
  readonly #free: Buffer[] = []
  #block: Block
  #start = 0
  #end = 0

  constructor(source: Source) {
    this.#source = source
    this.#block = this.#blockOf(BLOCK_BYTES)
  }

  get rest(): Buffer {
    return this.#block.bytes.subarray(this.#start, this.#end)
  }

  /** Reads more, a part of a block at most. Resolves to false at the end of the source. */
  async read(): Promise<boolean> {
    if (this.#block.bytes.length - this.#end < ROOM_BYTES) this.#move()
    const read = await this.#source.read(this.#block.bytes.subarray(this.#end))
    this.#end += read
    return read > 0
  }

  /** Takes bytes of the rest. They stay until the block is released. */
  take(count: number): Block {
    this.#start += count
    this.#block.holders++
    return this.#block
  }

  release(block: Block): void {
    block.holders--
    const isUsable = block.holders === 0 && block.bytes.length === BLOCK_BYTES
    if (isUsable && this.#free.length < FREE_BLOCKS) this.#free.push(block.bytes)
  }

  #move(): void {
    const { rest } = this
    const left = this.#block
    this.#block = this.#blockOf(Math.max(BLOCK_BYTES, rest.length * 2))
    rest.copy(this.#block.bytes)
    this.#start = 0
    this.#end = rest.length
    this.release(left)
  }

  #blockOf(size: number): Block {
    const free = size === BLOCK_BYTES ? this.#free.pop() : undefined
    return { bytes: free ?? Buffer.allocUnsafeSlow(size), holders: 1 }
  }
}
