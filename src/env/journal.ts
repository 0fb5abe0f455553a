// The journal of `coffer env encrypt`: the Idempotency-Key of the one request. With the key a second run
// completes an interrupted run, since a node executes a request once per key. The journal holds no value.
import { randomBytes } from 'node:crypto'
import { accessSync, constants, existsSync, readFileSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { OperatorError } from '../errors.ts'
import { createFile, FileError, removeFile, syncFile } from '../files.ts'

type JournaledRequest = {
  readonly idempotencyKey: string
  /** An earlier run used the key, and may have created the secrets. */
  readonly resumed: boolean
}

export class EncryptJournal {
  readonly #path: string

  /**
   * Beside the first of the files that has a journal, else whose directory can be written; of a symbolic
   * link, beside the target.
   */
  constructor(files: readonly [string, ...string[]]) {
    const paths = files.map(journalOf)
    this.#path = paths.find(existsSync) ?? paths.find(canBeWritten) ?? paths[0]
  }

  /**
   * Durable on return. Throws OperatorError if the interrupted run had another prefix, or if the journal
   * cannot be written.
   */
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
      this.#create(`${JSON.stringify({ key, prefix })}\n`)
    }
    return { idempotencyKey: key, resumed: found !== undefined }
  }

  /** Removes the journal: the work is done, or certainly nothing was created. */
  end(): void {
    removeFile(this.#path)
  }

  #create(text: string): void {
    try {
      createFile(this.#path, text)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      throw new OperatorError(`no secret was created, since the journal ${error.message}`, {
        cause: error,
        hint: 'with -o name a file in a directory that can be written',
      })
    }
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

function journalOf(file: string): string {
  const target = existsSync(file) ? realpathSync(file) : join(realpathSync(dirname(file)), basename(file))
  return join(dirname(target), `.${basename(target)}.coffer`)
}

function canBeWritten(path: string): boolean {
  try {
    accessSync(dirname(path), constants.W_OK)
    return true
  } catch {
    return false
  }
}

function option(prefix: string): string {
  return prefix === '' ? 'no --prefix' : `--prefix ${prefix}`
}
