// The transactions of an LMDB file: a failure becomes one rejection, and no caller waits for ever.
//
// All writes of one turn of the event loop are one transaction. When a transaction fails, lmdb rejects the
// promise of each write with the same text, hides the cause in one more rejected promise, and leaves a
// rejected promise behind without a reference: the process must ignore the last (`isStrayRejection`). lmdb's
// asynchronous `transaction()` never resolves after a failed transaction (seen with 3.5.6 on a full disk),
// and so is not used.
//
// After a failure at a meta page LMDB refuses every transaction (MDB_PANIC); the failure itself may be silent
// (overlappingSync). lmdb then settles no promise of a write, and hangs at a close and at an exit (seen with
// 3.5.6). A read throws MDB_PANIC, and so tells whether LMDB still works.
import type { RootDatabase } from 'lmdb'
import { FatalError } from '../errors.ts'

/** How often a transaction that has not settled looks whether LMDB still works. */
const LOOK_MS = 500
const STRAY = 'Commit failed (see commitError for details)'

export class Transactions {
  readonly #env: RootDatabase
  readonly #path: string
  /** Rejected when a transaction fails; another once a transaction succeeds. */
  #failure = Promise.withResolvers<never>()
  /** Whether the last transaction failed. */
  #failed = false
  #fatal: FatalError | undefined

  /** `path`: of the file of `env`, for messages. */
  constructor(env: RootDatabase, path: string) {
    this.#env = env
    this.#path = path
    this.#failure.promise.catch(() => undefined)
  }

  /**
   * Waits for all writes of one transaction, begun by `puts`. Throws FatalError where LMDB no longer works,
   * else the cause where the transaction failed.
   */
  async commit(puts: () => readonly Promise<boolean>[]): Promise<void> {
    this.#check()
    const refused = Promise.withResolvers<never>()
    const timer = setInterval(() => {
      try {
        this.#check()
      } catch (error) {
        endBySignal()
        refused.reject(error)
      }
    }, LOOK_MS)
    try {
      await Promise.race([committed(puts()), refused.promise])
    } catch (error) {
      this.#failed = true
      this.#failure.reject(error)
      this.#check(error)
      throw error
    } finally {
      clearInterval(timer)
    }
    if (!this.#failed) return
    this.#failed = false
    this.#failure = Promise.withResolvers()
    this.#failure.promise.catch(() => undefined)
  }

  /** The error that ends the node: nothing is written any more. */
  fail(cause: unknown): FatalError {
    const reason = cause instanceof Error ? cause.message : String(cause)
    this.#fatal ??= new FatalError(`${this.#path} cannot be written: ${reason}`, { cause })
    return this.#fatal
  }

  /** Throws FatalError where LMDB no longer works; `cause`: the failure just seen. */
  #check(cause?: unknown): void {
    if (this.#fatal) throw this.#fatal
    try {
      this.#env.resetReadTxn() // a read transaction that is open already would not tell
      this.#env.get('')
    } catch (error) {
      if (error instanceof Error && error.message.includes('MDB_PANIC')) throw this.fail(cause ?? error)
      throw error
    }
  }

  /** Resolves when all transactions are durable. Throws the error of a transaction that fails. */
  async flushed(): Promise<void> {
    await Promise.race([this.#failure.promise, this.#env.flushed])
  }

  /** Closes the file. Throws FatalError where nothing could be written any more. */
  async close(): Promise<void> {
    if (this.#fatal) throw this.#fatal
    if (!this.#failed) await this.#env.close() // never resolves after a failure
  }
}

/**
 * The thread of a write that hangs keeps a lock for ever, and lmdb waits for the lock when the process exits.
 */
function endBySignal(): void {
  process.prependOnceListener('exit', () => process.kill(process.pid, 'SIGKILL'))
}

/** Waits for all writes of one transaction. Throws the cause where the transaction failed. */
async function committed(puts: readonly Promise<boolean>[]): Promise<void> {
  const all = await Promise.allSettled(puts)
  const failed = all.find((result) => result.status === 'rejected')
  if (!failed) return
  const reason: unknown = failed.reason
  if (reason instanceof Error && 'commitError' in reason) {
    throw await Promise.resolve(reason.commitError).catch((cause: unknown) => cause)
  }
  throw reason
}

/**
 * Whether `reason` is the unhandled rejection of lmdb after a failed write; the write's own promise was
 * rejected, too.
 */
export function isStrayRejection(reason: unknown): boolean {
  return (
    reason instanceof Error &&
    (reason.message === STRAY || /^(Input\/output error|No space left)/.test(reason.message))
  )
}
