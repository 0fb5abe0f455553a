// The bytes of a file, or of stdin: inflated where the first bytes say so, and counted when read.
import { closeSync, createReadStream, fstatSync, openSync, read, readSync } from 'node:fs'
import { Socket } from 'node:net'
import { Readable, type Transform } from 'node:stream'
import { isatty, ReadStream as TerminalInput } from 'node:tty'
import { promisify } from 'node:util'
import {
  createGunzip,
  createGzip,
  createZstdCompress,
  createZstdDecompress,
  type Gunzip,
  type ZstdDecompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib'
import { errorCode, OperatorError } from '../../errors.ts'
import { type Compression, compressionOf, MAGIC_BYTES } from '../../table/file-format.ts'
import { type Source, sourceOf } from '../../table/source.ts'

const PIECE_BYTES = 1024 * 1024

export type Input = {
  readonly compression: Compression
  /** Bytes of the file on the disk; undefined for a stream. */
  readonly size: number | undefined
  /** The content, inflated. */
  readonly source: Source
  /** Bytes read so far, before inflating. */
  read(): number
  close(): void
}

/** Throws OperatorError where the file cannot be read. */
export async function openInput(file: string): Promise<Input> {
  if (file === '-') return streamInput(process.stdin)
  const fd = openToRead(file)
  const about = fstatSync(fd)
  if (about.isDirectory()) {
    closeSync(fd)
    throw new OperatorError(`${file} is a directory`, { hint: 'name a file' })
  }
  if (!about.isFile()) return streamInput(unblocked(file, fd, about.isFIFO()))
  const first = Buffer.alloc(MAGIC_BYTES)
  const compression = compressionOf(first.subarray(0, readSync(fd, first, { position: 0 })))
  if (compression === 'none') return fileInput(fd, about.size)
  return streamInput(createReadStream(file, { fd, highWaterMark: PIECE_BYTES }), about.size)
}

function fileInput(fd: number, size: number): Input {
  const readPart = promisify(read)
  let done = 0
  const source: Source = {
    read: async (into) => {
      const { bytesRead } = await readPart(fd, into, 0, into.length, null)
      done += bytesRead
      return bytesRead
    },
  }
  return { compression: 'none', size, source, read: () => done, close: () => closeSync(fd) }
}

/**
 * A file that is not regular, as a stream. A blocking read of a pipe or of a terminal keeps a thread, and the
 * process waits for its threads at the end; so neither is read before bytes are there.
 */
function unblocked(file: string, fd: number, isPipe: boolean): Readable {
  if (isPipe) return new Socket({ fd, readable: true, writable: false })
  return isatty(fd) ? new TerminalInput(fd) : createReadStream(file, { fd, highWaterMark: PIECE_BYTES })
}

async function streamInput(stream: Readable, size?: number): Promise<Input> {
  let done = 0
  const chunks = stream[Symbol.asyncIterator]()
  const first: Buffer[] = []
  let length = 0
  while (length < MAGIC_BYTES) {
    const { value, done: ended } = await chunks.next()
    if (ended) break
    first.push(value)
    length += value.length
  }
  const beginning = Buffer.concat(first)
  async function* all(): AsyncGenerator<Buffer> {
    done += beginning.length
    yield beginning
    for (;;) {
      const { value, done: ended } = await chunks.next()
      if (ended) return
      done += value.length
      yield value
    }
  }
  const compression = compressionOf(beginning)
  const raw = Readable.from(all(), { objectMode: false, highWaterMark: PIECE_BYTES })
  const content = inflated(raw, compression)
  const close = (): void => {
    content.destroy()
    raw.destroy()
    stream.destroy()
  }
  return { compression, size, source: sourceOf(content), read: () => done, close }
}

/** Compresses the new content in the way of the file; undefined: no compression. */
export function compressorOf(compression: Compression): Transform | undefined {
  if (compression === 'gzip') return createGzip({ chunkSize: PIECE_BYTES })
  if (compression === 'zstd') return createZstdCompress({ chunkSize: PIECE_BYTES })
  return undefined
}

function inflated(raw: Readable, compression: Compression): Readable {
  if (compression === 'none') return raw
  if (compression === 'zstd') {
    if (!knowsCutFrames())
      throw new OperatorError(`Node ${process.versions.node} takes a damaged zstd file for a whole one`, {
        hint: 'use Node 24.20 or later, or decompress the file first',
      })
    return Readable.from(framesOf(raw), { objectMode: false })
  }
  return Readable.from(membersOf(raw), { objectMode: false })
}

/**
 * The content of members of gzip. Node ends at a zero byte behind a member, and would lose the next members:
 * only zeros up to the end of the file are padding.
 */
async function* membersOf(raw: Readable): AsyncGenerator<Buffer> {
  const chunks = raw[Symbol.asyncIterator]()
  const members = createGunzip({ chunkSize: PIECE_BYTES })
  const left: Promise<Buffer | undefined> = feed(members, Buffer.alloc(0), chunks)
  left.catch((error: Error) => members.destroy(error))
  yield* members
  for (let rest = await left; rest !== undefined; rest = (await chunks.next()).value) {
    if (rest.some((byte) => byte !== 0))
      throw Object.assign(new Error('bytes behind the padding'), { code: 'Z_DATA_ERROR' })
  }
}

/** Releases of Node before 24.20 take a frame without its end for a whole frame (nodejs/node#64592). */
function knowsCutFrames(): boolean {
  try {
    zstdDecompressSync(zstdCompressSync('frame').subarray(0, -1))
    return false
  } catch {
    return true
  }
}

/**
 * The content of frames of zstd. A decompressor ends at the end of a frame where more bytes follow in the
 * same write, and would lose the next frames: each frame has its own.
 */
async function* framesOf(raw: Readable): AsyncGenerator<Buffer> {
  const chunks = raw[Symbol.asyncIterator]()
  for (let rest: Buffer | undefined = Buffer.alloc(0); rest !== undefined; ) {
    const frame = createZstdDecompress({ chunkSize: PIECE_BYTES })
    const left: Promise<Buffer | undefined> = feed(frame, rest, chunks)
    left.catch((error: Error) => frame.destroy(error))
    yield* frame
    rest = await left
  }
}

/** Writes bytes up to the end of the content. Returns the bytes behind; undefined where none are there. */
async function feed(
  frame: ZstdDecompress | Gunzip,
  first: Buffer,
  chunks: AsyncIterator<Buffer>,
): Promise<Buffer | undefined> {
  for (let rest = first; ; ) {
    if (rest.length > 0) {
      const before = frame.bytesWritten
      await new Promise<void>((resolve, reject) =>
        frame.write(rest, (error) => (error ? reject(error) : resolve())),
      )
      const taken = frame.bytesWritten - before
      if (taken < rest.length) return rest.subarray(taken)
    }
    const { value, done } = await chunks.next()
    if (done) {
      frame.end()
      return undefined
    }
    rest = value
  }
}

function openToRead(file: string): number {
  try {
    return openSync(file, 'r')
  } catch (error) {
    throw new OperatorError(`${file} cannot be read (${errorCode(error)})`, {
      cause: error,
      hint: 'name a file that is there and that you may read',
    })
  }
}
