// Scans large bodies in a thread, one after another: a body of 16 MiB with small members takes a good part of
// a second, and the node answers other requests meanwhile.
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { PROBLEMS, Problem, type Slug } from '../errors.ts'
import { Paths } from './paths.ts'
import { type Scan, type ScanLimit, scan } from './scan.ts'

const ROLE = 'coffer-scan'

/** Bodies from this size on go to the thread. The way there costs more than the scan of a smaller body. */
export const LARGE_BYTES = 256 * 1024

type Task = { readonly body: Uint8Array; readonly paths: readonly string[]; readonly limit: ScanLimit }
type Done = { readonly kind: 'done'; readonly scan: Scan }
type Refused = {
  readonly kind: 'problem'
  readonly slug: string
  readonly detail: string
  readonly members: Readonly<Record<string, unknown>>
}
type Failed = { readonly kind: 'failed'; readonly message: string }
type Reply = Done | Refused | Failed

/** Scans small bodies at once, and large bodies in the thread, which the first large body starts. */
export class ScanThread {
  #worker: Worker | undefined
  readonly #waiting: { readonly resolve: (scan: Scan) => void; readonly reject: (error: Error) => void }[] =
    []

  /** Throws the problems of `scan`. */
  async scan(body: Uint8Array, paths: Paths, limit: ScanLimit): Promise<Scan> {
    return body.length < LARGE_BYTES
      ? scan(body, paths, limit)
      : this.#send({ body, paths: paths.list, limit })
  }

  /** Replies come in the order of the tasks. To copy a body takes a hundredth of the time of its scan. */
  #send(task: Task): Promise<Scan> {
    const worker = (this.#worker ??= this.#start())
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      worker.postMessage(task)
    })
  }

  /** Ends the thread. Rejects the scans at work. */
  async close(): Promise<void> {
    await this.#worker?.terminate()
  }

  #start(): Worker {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: ROLE })
    worker.on('message', (reply: Reply) => {
      const task = this.#waiting.shift()
      if (reply.kind === 'problem') task?.reject(asProblem(reply))
      else if (reply.kind === 'failed') task?.reject(new Error(reply.message))
      else task?.resolve(reply.scan)
    })
    const fail = (error: Error): void => {
      this.#worker = undefined
      for (const task of this.#waiting.splice(0)) task.reject(error)
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
  try {
    return { kind: 'done', scan: scan(task.body, new Paths(task.paths), task.limit) }
  } catch (error) {
    if (error instanceof Problem) {
      return { kind: 'problem', slug: error.slug, detail: error.message, members: error.members }
    }
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) }
  }
}

if (!isMainThread && workerData === ROLE) {
  parentPort?.on('message', (task: Task) => parentPort?.postMessage(work(task)))
}
