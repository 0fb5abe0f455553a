// How every file is replaced. The new content is written under another name, synced, read back and renamed
// over the old file: after a crash at any moment the path has the old content or the new content, whole.
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { Appending, WRITE_BYTES } from './appending.ts'
import { AssertionError, assert } from './assert.ts'
import { systemClock } from './clock.ts'
import { fillReserve, withReserve } from './descriptors.ts'
import { errorCode, OperatorError } from './errors.ts'
import { tieOf } from './mounts.ts'

/**
 * A file cannot be written. The message names path and cause; only a failed sync of the directory leaves the
 * new file.
 */
export class FileError extends OperatorError {
  override readonly name = 'FileError'
}

/** The calls of `node:fs` used here; a test hands in calls that fail. */
export type FileOperations = Pick<
  typeof fs,
  | 'openSync'
  | 'closeSync'
  | 'writeSync'
  | 'readSync'
  | 'fsyncSync'
  | 'fstatSync'
  | 'fchmodSync'
  | 'fchownSync'
  | 'lstatSync'
  | 'statSync'
  | 'realpathSync'
  | 'readdirSync'
  | 'renameSync'
  | 'unlinkSync'
>

type Attributes = Pick<fs.Stats, 'mode' | 'uid' | 'gid'>

export type ReplaceOptions = {
  /** Permission bits. Default: the bits of the replaced file, else of `like`, else 0600. */
  readonly mode?: number
  /** Owner, group and mode of a new file; owner and group as far as the system allows. */
  readonly like?: Attributes
  readonly operations?: FileOperations
}

/** `readBack` returns the new content as the system has it. */
type Check = (readBack: () => Buffer) => void

const PRIVATE_MODE = 0o600
const MODE_BITS = 0o7777
const READ_BYTES = 1024 * 1024
/** Names of 48 random bits: a second collision does not happen. */
const NAME_BYTES = 6
const NAME_TRIES = 3
/** Names of temporary files of the process, up to a rename or removal. */
const atWork = new Set<string>()

/**
 * Replaces or creates the file in one step, durably. A replaced file keeps its owner and group, and its mode
 * unless `mode` is given; a symbolic link keeps pointing at its target. `check` runs just before the rename,
 * and can read the new content back; an error thrown by `check` leaves the old file. Throws FileError.
 */
export function replaceFile(
  path: string,
  content: string | Uint8Array,
  { check, ...options }: ReplaceOptions & { readonly check?: Check } = {},
): void {
  const replacement = Replacement.open(path, options)
  try {
    replacement.write(typeof content === 'string' ? Buffer.from(content) : content)
    replacement.commit(check)
  } finally {
    replacement.discard()
  }
}

/** Throws FileError for a path that is empty or ends in a slash: the rename would fail after all the work. */
export function checkName(path: string): void {
  if (/(?:^|\/)$/.test(path)) throw new FileError(`'${path}' names no file`, { hint: 'name a file' })
}

/** Throws FileError where `replaceFile` would fail on a disk with room. Changes nothing. */
export function checkReplaceable(path: string, options: ReplaceOptions = {}): void {
  Replacement.open(path, options).rehearse()
}

/**
 * New content of a file, written in parts. Ends with `commit` or `discard`; after `commit`, `discard` does
 * nothing.
 */
export class Replacement {
  readonly #path: string
  readonly #target: string
  /** Written here until the commit, also by another program that opens the path. */
  readonly temporary: string
  readonly #mode: number
  readonly #operations: FileOperations
  readonly #written = createHash('sha256')
  #file: number | undefined
  #appending: Appending | undefined

  private constructor(path: string, { mode, like, operations = fs }: ReplaceOptions) {
    checkName(path)
    this.#path = path
    this.#operations = operations
    this.#target = targetOf(path, operations)
    const previous = operations.statSync(this.#target, { throwIfNoEntry: false })
    if (previous?.isFile() === false) throw new FileError(`${path} cannot be replaced: not a regular file`)
    const tie = previous && tieOf(this.#target)
    if (tie) throw new FileError(`${path} cannot be replaced: ${tie.reason}`, { hint: tie.hint })
    this.#mode = (mode ?? previous?.mode ?? like?.mode ?? PRIVATE_MODE) & MODE_BITS
    removeLeftovers(this.#target, operations)
    ;[this.temporary, this.#file] = openTemporary(this.#target, operations)
    atWork.add(basename(this.temporary))
    try {
      if (previous) this.#keepOwner(previous)
      else if (like) this.#copyOwner(like)
    } catch (error) {
      this.discard()
      throw error
    }
  }

  /** Throws FileError where the file cannot be replaced. */
  static open(path: string, options: ReplaceOptions = {}): Replacement {
    return explained(path, () => withReserve(() => new Replacement(path, options)))
  }

  /** Appends. Throws FileError. */
  write(bytes: Uint8Array): void {
    explained(this.#path, () => writeAll(this.#operations, this.#openFile, bytes))
    this.#written.update(bytes)
  }

  /** Replaces the file, durably. Throws FileError, and errors of `check`. */
  commit(check?: Check): void {
    const operations = this.#operations
    explained(this.#path, () => {
      operations.fchmodSync(this.#openFile, this.#mode)
      operations.fsyncSync(this.#openFile)
      compareWritten(operations, this.#openFile, this.#written.digest())
    })
    check?.(() => explained(this.#path, () => readWhole(operations, this.#openFile)))
    this.#rename()
  }

  /** Ends like `discard`. Throws FileError where `commit` would. */
  rehearse(): void {
    try {
      explained(this.#path, () => this.#operations.fchmodSync(this.#openFile, this.#mode))
    } finally {
      this.discard()
    }
    if (fs.existsSync(this.temporary))
      throw new FileError(`${this.#path} cannot be replaced: ${this.temporary} cannot be removed again`)
  }

  #rename(): void {
    const operations = this.#operations
    explained(this.#path, () => {
      const file = this.#openFile
      this.#file = undefined
      operations.closeSync(file)
      fillReserve()
    })
    explained(this.#path, () => operations.renameSync(this.temporary, this.#target))
    atWork.delete(basename(this.temporary))
    try {
      syncPath(dirname(this.#target), operations)
    } catch (error) {
      throw new FileError(
        `${this.#path} is replaced, but a power loss can bring the old file back: ` +
          `its directory cannot be synced (${errorCode(error)})`,
        { cause: error },
      )
    }
  }

  /**
   * As `write`, off the event loop, for files of many gigabytes: without the comparison at the end. The
   * bytes must not change meanwhile. Throws FileError.
   */
  append(bytes: Uint8Array): Promise<void> {
    this.#appending ??= new Appending(this.#openFile)
    return this.#appending.write(bytes).catch(this.#explain)
  }

  /** As `commit` after `append`, or after another program has written the file. Throws FileError. */
  async commitAppended(): Promise<void> {
    await promisify(fs.fchmod)(this.#openFile, this.#mode).catch(this.#explain)
    this.#appending ??= new Appending(this.#openFile)
    await this.#appending.sync().catch(this.#explain)
    this.#rename()
  }

  /** Removes the temporary file; if the system refuses, the next replacement of the file removes it. */
  discard(): void {
    if (this.#file !== undefined) ignoreErrors(this.#operations.closeSync, this.#file)
    this.#file = undefined
    if (atWork.delete(basename(this.temporary))) ignoreErrors(this.#operations.unlinkSync, this.temporary)
    fillReserve()
  }

  readonly #explain = (error: unknown): never => {
    throw explanation(this.#path, error)
  }

  get #openFile(): number {
    assert(this.#file !== undefined, 'a replacement is written before its end')
    return this.#file
  }

  #keepOwner({ uid, gid }: Attributes): void {
    try {
      this.#setOwner(uid, gid)
    } catch (error) {
      throw new FileError(
        `${this.#path} cannot be replaced: its owner and group (${uid}:${gid}) cannot be kept ` +
          `(${errorCode(error)})`,
        { cause: error, hint: 'run the command as the owner of the file, or as root' },
      )
    }
  }

  #copyOwner({ uid, gid }: Attributes): void {
    try {
      this.#setOwner(uid, gid)
    } catch {
      // Only root may give files away; a new file may belong to the user of the process.
    }
  }

  #setOwner(uid: number, gid: number): void {
    const created = this.#operations.fstatSync(this.#openFile)
    if (created.uid !== uid || created.gid !== gid) this.#operations.fchownSync(this.#openFile, uid, gid)
  }
}

/**
 * Creates a file that must not exist, durably. A killed process can leave a part of it. Throws FileError; a
 * file that exists already is the cause EEXIST.
 */
export function createFile(
  path: string,
  content: string,
  { mode = PRIVATE_MODE, operations = fs }: Pick<ReplaceOptions, 'mode' | 'operations'> = {},
): void {
  const bytes = Buffer.from(content)
  explained(path, () => {
    const file = operations.openSync(path, 'wx+', mode)
    try {
      try {
        writeAll(operations, file, bytes)
        operations.fsyncSync(file)
        compareWritten(operations, file, createHash('sha256').update(bytes).digest())
      } finally {
        operations.closeSync(file)
      }
      syncPath(dirname(path), operations)
    } catch (error) {
      ignoreErrors(operations.unlinkSync, path)
      throw error
    }
  })
}

/** Removes a file, durably. A file that does not exist is fine. */
export function removeFile(path: string): void {
  if (!fs.existsSync(path)) return
  fs.rmSync(path, { force: true })
  syncPath(dirname(path), fs)
}

/** Makes the content of a file durable, and its name. */
export function syncFile(path: string): void {
  syncPath(path, fs)
  syncPath(dirname(path), fs)
}

/** Makes the names in a directory durable, without blocking a running node. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = withReserve(() => fs.openSync(path, 'r'))
  try {
    await promisify(fs.fsync)(directory)
  } finally {
    fs.closeSync(directory)
    fillReserve()
  }
}

/** The file itself, behind symbolic links. */
function targetOf(path: string, { lstatSync, realpathSync }: FileOperations): string {
  const isLink = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()
  return isLink ? realpathSync(path) : path
}

const temporaryPrefix = (target: string): string => `.${basename(target)}.`

/** In the directory of the target: a rename does not cross file systems. The name has the process id. */
function openTemporary(target: string, { openSync }: FileOperations): readonly [string, number] {
  for (let attempt = 1; ; attempt++) {
    const random = Buffer.from(systemClock.random(NAME_BYTES)).toString('hex')
    const temporary = join(dirname(target), `${temporaryPrefix(target)}${process.pid}-${random}.new`)
    try {
      return [temporary, openSync(temporary, 'wx+', PRIVATE_MODE)]
    } catch (error) {
      if (errorCode(error) !== 'EEXIST' || attempt === NAME_TRIES) throw error
    }
  }
}

/** Removes the temporary files of killed processes: a file with keys or values must not stay for ever. */
function removeLeftovers(target: string, { readdirSync, unlinkSync }: FileOperations): void {
  const directory = dirname(target)
  const prefix = temporaryPrefix(target)
  for (const name of readdirSync(directory)) {
    const pid = name.startsWith(prefix) && /^(\d+)-[0-9a-f]+\.new$/.exec(name.slice(prefix.length))?.[1]
    if (pid && !isWritten(name, Number(pid))) ignoreErrors(unlinkSync, join(directory, name))
  }
}

/** The process itself may have the id of a killed process, as in a container. */
function isWritten(name: string, pid: number): boolean {
  if (pid === process.pid) return atWork.has(name)
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errorCode(error) !== 'ESRCH'
  }
}

/** A write may take fewer bytes than asked. */
function writeAll({ writeSync }: FileOperations, file: number, bytes: Uint8Array): void {
  for (let position = 0; position < bytes.length; ) {
    const written = writeSync(file, bytes, position, Math.min(bytes.length - position, WRITE_BYTES))
    if (written === 0) throw new Error('the system writes nothing')
    position += written
  }
}

function compareWritten(operations: FileOperations, file: number, written: Buffer): void {
  const found = createHash('sha256')
  for (const block of blocksOf(operations, file)) found.update(block)
  if (!found.digest().equals(written)) throw new Error('the file does not read back as it was written')
}

function readWhole(operations: FileOperations, file: number): Buffer {
  return Buffer.concat(Array.from(blocksOf(operations, file), (block) => Buffer.from(block)))
}

/** The content of a file from its beginning. A block is valid until the next is taken. */
function* blocksOf({ readSync }: FileOperations, file: number): Generator<Buffer> {
  const block = Buffer.allocUnsafe(READ_BYTES)
  for (let position = 0; ; ) {
    const read = readSync(file, block, 0, block.length, position)
    if (read === 0) return
    yield block.subarray(0, read)
    position += read
  }
}

function syncPath(path: string, { openSync, fsyncSync, closeSync }: FileOperations): void {
  const file = withReserve(() => openSync(path, 'r'))
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
    fillReserve()
  }
}

/** Runs `work`; an error of the system becomes a FileError with the path. */
function explained<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw explanation(path, error)
  }
}

function explanation(path: string, error: unknown): unknown {
  if (error instanceof FileError || error instanceof AssertionError || !(error instanceof Error)) return error
  const parent = dirname(path)
  if (errorCode(error) !== 'ENOENT' || fs.existsSync(parent))
    return new FileError(`${path} cannot be written: ${error.message}`, { cause: error })
  const message = `${path} cannot be written: the directory ${parent} does not exist`
  return new FileError(message, { cause: error, hint: `create it: mkdir -p ${parent}` })
}

function ignoreErrors<T>(work: (of: T) => void, of: T): void {
  try {
    work(of)
  } catch {}
}
