// What an interrupted `coffer env encrypt` needs to go on: the Idempotency-Key of its one request. Under the
// same key the same request is done once, however often it is sent. No value is in it.
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { OperatorError } from '../errors.ts'
import { createFile, removeFile, syncFile } from '../files.ts'

export type Begun = {
  readonly key: string
  /** An earlier run began with it, and may have created the secrets. */
  readonly resumed: boolean
}

export class Journal {
  readonly #path: string

  /** Of a file that is there; through a link, of the one that it points at. */
  constructor(file: string) {
    const target = realpathSync(file)
    this.#path = join(dirname(target), `.${basename(target)}.coffer`)
  }

  /**
   * Durable before it returns. Throws OperatorError where the run that was interrupted had another prefix.
   */
  begin(prefix: string): Begun {
    const found = this.#read()
    if (found && found.prefix !== prefix)
      throw new OperatorError(
        `an earlier run was interrupted, and it had ${told(found.prefix)}: run it again with that, so that it is finished. ` +
          `Or remove ${this.#path}, then see with \`coffer secret list\` what it has created`,
      )
    const key = found?.key ?? randomBytes(24).toString('base64url')
    if (found) {
      // An earlier run may have been killed before it had synced the journal.
      syncFile(this.#path)
    } else {
      // A journal that does not parse was not finished, so its key has never been sent.
      removeFile(this.#path)
      createFile(this.#path, `${JSON.stringify({ key, prefix })}\n`)
    }
    return { key, resumed: found !== undefined }
  }

  /** The work is done, or certainly will not be. */
  end(): void {
    removeFile(this.#path)
  }

  #read(): { readonly key: string; readonly prefix: string } | undefined {
    if (!existsSync(this.#path)) return undefined
    let json: unknown
    try {
      json = JSON.parse(readFileSync(this.#path, 'utf8'))
    } catch (error) {
      if (error instanceof SyntaxError) return undefined
      throw error
    }
    const { key, prefix } = Object(json) as { readonly key?: unknown; readonly prefix?: unknown }
    if (typeof key !== 'string' || !/^[\x21-\x7e]{1,128}$/.test(key) || typeof prefix !== 'string')
      return undefined
    return { key, prefix }
  }
}

function told(prefix: string): string {
  return prefix === '' ? 'no --prefix' : `--prefix ${prefix}`
}
