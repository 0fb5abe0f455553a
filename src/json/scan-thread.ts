// Large bodies are scanned in a thread of their own, one after another: the scan of 16 MiB of small members takes a
// good part of a second, and the node answers others meanwhile.
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { PROBLEMS, Problem, type Slug } from '../errors.ts'
import { type Most, Paths, type Scan, scan } from './scan.ts'

const ROLE = 'coffer-scan'

/** Bodies from this size on go to the thread: below it the way there costs more than the scan. */
export const LARGE_BYTES = 256 * 1024

type Task = { readonly body: Uint8Array; readonly paths: readonly string[]; readonly most: Most }
type Done = { readonly kind: 'done'; readonly scan: Scan }
type Refused = {
  readonly kind: 'problem'
  readonly slug: string
  readonly detail: string
  readonly members: Readonly<Record<string, unknown>>
}
type Failed = { readonly kind: 'failed'; readonly message: string }
type Reply = Done | Refused | Failed

/** Scans bodies, large ones elsewhere. The thread is started when it is first needed. */
export class Scanner {
  #worker: Worker | undefined
  #waiting: { readonly resolve: (scan: Scan) => void; readonly reject: (error: Error) => void }[] = []

  /** As `scan`. */
  async scan(body: Uint8Array, paths: Paths, most: Most): Promise<Scan> {
    return body.length < LARGE_BYTES ? scan(body, paths, most) : this.#ask({ body, paths: paths.list, most })
  }

  /** Answers come in the order of the questions. The body is copied: a memcpy, where the scan takes a hundred times that. */
  #ask(task: Task): Promise<Scan> {
    const worker = (this.#worker ??= this.#start())
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      worker.postMessage(task)
    })
  }

  /** Ends the thread; a body that is being scanned is refused. */
  async close(): Promise<void> {
    await this.#worker?.terminate()
  }

  #start(): Worker {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: ROLE })
    worker.on('message', (reply: Reply) => {
      const asked = this.#waiting.shift()
      if (reply.kind === 'problem') asked?.reject(asProblem(reply))
      else if (reply.kind === 'failed') asked?.reject(new Error(reply.message))
      else asked?.resolve(reply.scan)
    })
    const fail = (error: Error): void => {
      this.#worker = undefined
      for (const asked of this.#waiting.splice(0)) asked.reject(error)
    }
    worker.on('error', fail)
    worker.on('exit', () => fail(new Error('the thread that scans bodies ended')))
    worker.unref() // after the listeners: they hold it
    return worker
  }
}

function asProblem({ slug, detail, members }: Refused): Problem {
  if (!Object.hasOwn(PROBLEMS, slug)) return new Problem('internal', detail)
  return new Problem(slug as Slug, detail, members) // just checked to be in the table
}

function work(task: Task): Reply {
  try {
    return { kind: 'done', scan: scan(task.body, new Paths(task.paths), task.most) }
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
