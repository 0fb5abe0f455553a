// What an interrupted `coffer env encrypt` needs to go on: the Idempotency-Key of its one request. Under the same key
// the same request is done once, however often it is sent. No value is in it.
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { OperatorError } from '../errors.ts'
import { sync, syncFile } from '../files.ts'

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

  /** Durable before it returns. Throws OperatorError where the run that was interrupted had another prefix. */
  begin(prefix: string): Begun {
    const found = this.#read()
    if (found && found.prefix !== prefix)
      throw new OperatorError(
        `an earlier run was interrupted, and it had ${told(found.prefix)}: run it again with that, so that it is finished. ` +
          `Or remove ${this.#path}, then see with \`coffer secret list\` what it has created`,
      )
    const key = found?.key ?? randomBytes(24).toString('base64url')
    if (!found) {
      // One that does not parse was not finished, and so its key has never been sent.
      rmSync(this.#path, { force: true })
      writeFileSync(this.#path, `${JSON.stringify({ key, prefix })}\n`, { mode: 0o600, flag: 'wx' })
    }
    // One that was found may not be durable: its run may have ended just before.
    syncFile(this.#path)
    return { key, resumed: found !== undefined }
  }

  /** The work is done, or certainly will not be. */
  end(): void {
    if (!existsSync(this.#path)) return
    rmSync(this.#path, { force: true })
    sync(dirname(this.#path))
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
