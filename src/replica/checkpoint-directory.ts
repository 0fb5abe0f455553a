// The files of checkpoints, in the directory of the replica.
import { createReadStream, existsSync } from 'node:fs'
import { open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDirectory } from '../files.ts'
import type { CheckpointFiles } from './store.ts'

const PREFIX = 'checkpoint-'
const BLOCK_BYTES = 4 * 1024 * 1024

export class CheckpointDirectory implements CheckpointFiles {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  #file(name: string): string {
    return join(this.#path, PREFIX + name)
  }

  async write(name: string, blocks: AsyncIterable<Buffer>): Promise<void> {
    const temporary = `${this.#file(name)}.new`
    const file = await open(temporary, 'wx', 0o600)
    try {
      for await (const block of blocks) await file.writeFile(block)
      await file.sync()
      await file.close()
      await rename(temporary, this.#file(name))
      await syncDirectory(this.#path)
    } catch (error) {
      // An unfinished checkpoint would keep a full disk full.
      await file.close()
      await rm(temporary, { force: true })
      throw error
    }
  }

  read(name: string): AsyncIterable<Buffer> | undefined {
    if (!existsSync(this.#file(name))) return undefined
    return createReadStream(this.#file(name), { highWaterMark: BLOCK_BYTES })
  }

  async removeOthers(name: string): Promise<void> {
    for (const file of await readdir(this.#path)) {
      if (file.startsWith(PREFIX) && file !== PREFIX + name) await rm(join(this.#path, file), { force: true })
    }
  }
}
