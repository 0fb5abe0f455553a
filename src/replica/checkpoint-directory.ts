// The files of checkpoints, in the directory of the replica. Not written by files.ts: the node works
// meanwhile, no checkpoint is replaced, and each proves itself by its name and its checksums.
import { closeSync, createWriteStream, openSync, read } from 'node:fs'
import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { fillReserve, withReserve } from '../descriptors.ts'
import { errorCode } from '../errors.ts'
import { syncDirectory } from '../files.ts'
import { diskSpace } from '../ledger/lmdb-room.ts'
import type { CheckpointFiles } from './store.ts'

const readBlock = promisify(read)
const PREFIX = 'checkpoint-'
const BLOCK_BYTES = 4 * 1024 * 1024
/** What stays free, in reserves of the ledger: at one reserve the ledger refuses commits. */
const FREE_RESERVES = 2

export class CheckpointDirectory implements CheckpointFiles {
  readonly #path: string
  readonly #space: typeof diskSpace

  /** `space`: the space of the disk, for tests. */
  constructor(path: string, space = diskSpace) {
    this.#path = path
    this.#space = space
  }

  #file(name: string): string {
    return join(this.#path, PREFIX + name)
  }

  async hasRoom(bytes: number): Promise<boolean> {
    const { free, reserve } = this.#space(this.#path)
    return free - bytes >= FREE_RESERVES * reserve
  }

  async write(name: string, blocks: AsyncIterable<Buffer>): Promise<void> {
    const temporary = `${this.#file(name)}.new`
    const fd = withReserve(() => openSync(temporary, 'wx', 0o600))
    try {
      const file = createWriteStream(temporary, { fd, flush: true }).once('close', fillReserve)
      await pipeline(blocks, file)
      await rename(temporary, this.#file(name))
      await syncDirectory(this.#path)
    } catch (error) {
      // An unfinished checkpoint would keep a full disk full.
      await rm(temporary, { force: true })
      throw error
    }
  }

  read(name: string): AsyncIterable<Buffer> | undefined {
    const path = this.#file(name)
    try {
      return blocksOf(withReserve(() => openSync(path, 'r')))
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined
      throw error
    }
  }

  async removeOthers(name: string): Promise<void> {
    for (const file of await readdir(this.#path)) {
      if (file.startsWith(PREFIX) && file !== PREFIX + name) await rm(join(this.#path, file), { force: true })
    }
  }
}

/** Reads a block while the block before is used, into two buffers: a stream allocates a buffer a block. */
async function* blocksOf(file: number): AsyncIterable<Buffer> {
  const buffers = [0, 1].map(() => Buffer.allocUnsafeSlow(BLOCK_BYTES))
  let next = readBlock(file, buffers[0], 0, BLOCK_BYTES, null)
  try {
    for (let read = 1; ; read++) {
      const { bytesRead, buffer } = await next
      if (bytesRead === 0) return
      next = readBlock(file, buffers[read % 2], 0, BLOCK_BYTES, null)
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await next.catch(() => undefined) // a caller that stopped early needs no block more
    closeSync(file)
    fillReserve()
  }
}
