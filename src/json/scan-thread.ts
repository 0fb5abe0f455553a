// Scans large bodies in a thread, one after another: a body of 16 MiB with small members takes a good part of
// a second, and the node answers other requests meanwhile.
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { assert } from '../assert.ts'
import { PROBLEMS, Problem, type Slug } from '../errors.ts'
import type { Scan, ScanLimit } from './matches.ts'
import { Paths } from './paths.ts'
import { gapIn } from './required.ts'
import { pathsOf, scan } from './scan.ts'

const ROLE = 'coffer-scan'

/** Bodies from this size on go to the thread. The way there costs more than the scan of a smaller body. */
export const LARGE_BYTES = 256 * 1024

/** The thread ends after so long without work. */
const REST_MS = 5000

/** Tasks at the thread: the second is there for when the first is done. */
const SENT_MOST = 2

/** `wanted`: the indices of the matches whose paths are asked for. */
type Question =
  | { readonly kind: 'scan'; readonly paths: readonly string[]; readonly limit: ScanLimit }
  | {
      readonly kind: 'paths'
      readonly paths: readonly string[]
      readonly limit: ScanLimit
      readonly wanted: readonly number[]
    }
  | { readonly kind: 'gap'; readonly fields: readonly string[] }
type Task = Question & { readonly body: Uint8Array }
type Scanned = { readonly kind: 'scan'; readonly scan: Scan }
type Located = { readonly kind: 'paths'; readonly texts: readonly string[] }
type Gap = { readonly kind: 'gap'; readonly path: string | undefined }
type Answered = Scanned | Located | Gap
type Refused = {
  readonly kind: 'problem'
  readonly slug: string
  readonly detail: string
  readonly members: Readonly<Record<string, unknown>>
}
type Failed = { readonly kind: 'failed'; readonly message: string }
type Reply = Answered | Refused | Failed
type Numbered<T> = { readonly number: number; readonly of: T }

type Waiting = {
  readonly task: Task
  readonly resolve: (reply: Answered) => void
  readonly reject: (error: Error) => void
}

/** A body, and the owner in whose turn the body is scanned. */
type OwnedBody = { readonly owner: string; readonly body: Uint8Array }
type ScannedBody = OwnedBody & { readonly paths: Paths; readonly limit: ScanLimit }

/**
 * Scans small bodies at once, and large bodies in the thread, which the first large body starts: owners in
 * rotation: an owner with many large bodies delays the others by two bodies.
 */
export class ScanThread {
  #worker: Worker | undefined
  #rest: NodeJS.Timeout | undefined
  /** At the thread, by the number of the task. */
  readonly #sent = new Map<number, Waiting>()
  #tasks = 0
  /** Not sent yet, by owner; the owner whose turn is next stands first. */
  readonly #waiting = new Map<string, Waiting[]>()
  readonly #newWorker: () => Worker

  /** `newWorker`: for tests. */
  constructor(newWorker = () => new Worker(fileURLToPath(import.meta.url), { workerData: ROLE })) {
    this.#newWorker = newWorker
  }

  /** Throws the problems of `scan`; errors of the system where there is no thread or no memory. */
  async scan({ owner, body, paths, limit }: ScannedBody): Promise<Scan> {
    if (body.length < LARGE_BYTES) return scan(body, paths, limit)
    const reply = await this.#ask(owner, { kind: 'scan', body, paths: paths.list, limit })
    assert(reply.kind === 'scan', 'a scan is answered by a scan')
    return reply.scan
  }

  /** As `pathsOf`. */
  async pathsOf(
    { owner, body, paths, limit }: ScannedBody,
    wanted: readonly number[],
  ): Promise<readonly string[]> {
    if (body.length < LARGE_BYTES || wanted.length === 0) return pathsOf(body, paths, wanted, limit)
    const reply = await this.#ask(owner, { kind: 'paths', body, paths: paths.list, limit, wanted })
    assert(reply.kind === 'paths', 'paths are answered by paths')
    return reply.texts
  }

  /** As `gapIn`. */
  async gapIn({ owner, body }: OwnedBody, fields: readonly string[]): Promise<string | undefined> {
    if (body.length < LARGE_BYTES) return gapIn(body, fields)
    const reply = await this.#ask(owner, { kind: 'gap', body, fields })
    assert(reply.kind === 'gap', 'a gap is answered by a gap')
    return reply.path
  }

  #ask(owner: string, task: Task): Promise<Answered> {
    const { promise, resolve, reject } = Promise.withResolvers<Answered>()
    const waiting = { task, resolve, reject }
    const own = this.#waiting.get(owner)
    if (own) own.push(waiting)
    else this.#waiting.set(owner, [waiting])
    this.#send()
    return promise
  }

  /** A task that cannot be sent is rejected: the next reply is of another task. */
  #send(): void {
    while (this.#sent.size < SENT_MOST) {
      const next = this.#next()
      if (next === undefined) return
      try {
        const worker = (this.#worker ??= this.#start())
        // To copy a body takes a hundredth of the time of its scan.
        const body = new Uint8Array(next.task.body) // given away: else the copy would exist twice
        const number = this.#tasks++
        const sent: Numbered<Task> = { number, of: { ...next.task, body } }
        worker.postMessage(sent, [body.buffer])
        this.#sent.set(number, next)
      } catch (error) {
        next.reject(error instanceof Error ? error : new Error(String(error)))
        if (this.#worker) this.#endLater(this.#worker)
      }
    }
  }

  #next(): Waiting | undefined {
    const [first] = this.#waiting
    if (first === undefined) return undefined
    const [owner, [next, ...others]] = first
    this.#waiting.delete(owner)
    if (others.length > 0) this.#waiting.set(owner, others)
    return next
  }

  /** A thread without work keeps the memory of its last bodies: the next large body starts another. */
  #endLater(worker: Worker): void {
    clearTimeout(this.#rest)
    this.#rest = setTimeout(() => {
      if (this.#sent.size > 0 || this.#worker !== worker) return
      this.#worker = undefined
      void worker.terminate()
    }, REST_MS).unref()
  }

  /** Ends the thread. Rejects the scans at work. */
  async close(): Promise<void> {
    await this.#worker?.terminate()
  }

  #start(): Worker {
    const worker = this.#newWorker()
    worker.on('message', ({ number, of: reply }: Numbered<Reply>) => {
      const asked = this.#sent.get(number)
      this.#sent.delete(number)
      this.#send()
      if (this.#sent.size === 0) this.#endLater(worker)
      if (reply.kind === 'problem') asked?.reject(asProblem(reply))
      else if (reply.kind === 'failed') asked?.reject(new Error(reply.message))
      else asked?.resolve(reply)
    })
    const fail = (error: Error): void => {
      if (this.#worker !== worker) return
      this.#worker = undefined
      const all = [...this.#sent.values(), ...[...this.#waiting.values()].flat()]
      this.#sent.clear()
      this.#waiting.clear()
      for (const asked of all) asked.reject(error)
    }
    worker.on('error', fail)
    worker.on('exit', () => fail(new Error('the thread that scans bodies ended')))
    worker.unref() // after the listeners, since a listener refs the worker again
    return worker
  }
}

function asProblem({ slug, detail, members }: Refused): Problem {
  if (!Object.hasOwn(PROBLEMS, slug)) return new Problem('internal', detail)
  return new Problem(slug as Slug, detail, members) // just checked to be in the table
}

function work(task: Task): Reply {
  const { body } = task
  try {
    switch (task.kind) {
      case 'scan':
        return { kind: 'scan', scan: scan(body, new Paths(task.paths), task.limit) }
      case 'paths':
        return { kind: 'paths', texts: pathsOf(body, new Paths(task.paths), task.wanted, task.limit) }
      case 'gap':
        return { kind: 'gap', path: gapIn(body, task.fields) }
    }
  } catch (error) {
    if (error instanceof Problem) {
      return { kind: 'problem', slug: error.slug, detail: error.message, members: error.members }
    }
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) }
  }
}

/** Buffers that go with a reply without a copy: matches may take more bytes than the body. */
function buffersOf(reply: Reply): ArrayBuffer[] {
  if (reply.kind !== 'scan') return []
  const { start, end, kinds, leaf } = reply.scan
  return [start, end, kinds, leaf].map(({ buffer }) => buffer as ArrayBuffer) // made by matchesOf
}

if (!isMainThread && workerData === ROLE) {
  parentPort?.on('message', ({ number, of: task }: Numbered<Task>) => {
    const reply: Numbered<Reply> = { number, of: work(task) }
    parentPort?.postMessage(reply, buffersOf(reply.of))
  })
}
