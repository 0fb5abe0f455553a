// The journal of `coffer env encrypt`: the Idempotency-Key of the one request. With the key a second run
// completes an interrupted run, since a node executes a request once per key. The journal holds no value.
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { OperatorError } from '../errors.ts'
import { createFile, removeFile, syncFile } from '../files.ts'

type JournaledRequest = {
  readonly idempotencyKey: string
  /** An earlier run used the key, and may have created the secrets. */
  readonly resumed: boolean
}

export class EncryptJournal {
  readonly #path: string

  /** The file must exist; of a symbolic link, the journal is beside the target. */
  constructor(file: string) {
    const target = realpathSync(file)
    this.#path = join(dirname(target), `.${basename(target)}.coffer`)
  }

  /** Durable on return. Throws OperatorError if the interrupted run had another prefix. */
  begin(prefix: string): JournaledRequest {
    const found = this.#read()
    if (found && found.prefix !== prefix)
      throw new OperatorError(`an earlier run with ${option(found.prefix)} was interrupted`, {
        hint:
          `run the command again with ${option(found.prefix)} to complete it; or remove ${this.#path}, ` +
          'and see with `coffer secret list` which secrets exist',
      })
    const key = found?.key ?? randomBytes(24).toString('base64url')
    if (found) {
      // An earlier run may have been killed before it had synced the journal.
      syncFile(this.#path)
    } else {
      // A journal without valid JSON was never complete, so no request had its key.
      removeFile(this.#path)
      createFile(this.#path, `${JSON.stringify({ key, prefix })}\n`)
    }
    return { idempotencyKey: key, resumed: found !== undefined }
  }

  /** Removes the journal: the work is done, or certainly nothing was created. */
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

function option(prefix: string): string {
  return prefix === '' ? 'no --prefix' : `--prefix ${prefix}`
}
