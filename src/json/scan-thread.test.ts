// Each large body gets the scan of its own bytes, also where the system has no thread or no memory for another.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { UNLIMITED } from './matches.ts'
import { Paths } from './paths.ts'
import { ScanThread } from './scan-thread.ts'

const paths = new Paths(['values[]'])
const FILE = fileURLToPath(new URL('scan-thread.ts', import.meta.url))
const newWorker = (): Worker => new Worker(FILE, { workerData: 'coffer-scan' })

/** How many values the scan of a large body of `count` values finds. */
async function scanned(thread: ScanThread, count: number): Promise<number> {
  const body = Buffer.from(JSON.stringify({ values: new Array(count).fill('.'.repeat(60)) }))
  return (await thread.scan({ owner: `owner-${count}`, body, paths, limit: UNLIMITED })).count
}

test('a thread that cannot be started: the body that asked is refused, and the next get their own scans', async () => {
  let starts = 0
  const thread = new ScanThread(() => {
    if (++starts === 1) throw new Error('no thread')
    return newWorker()
  })
  await assert.rejects(scanned(thread, 5000), /no thread/)
  const counts = [6000, 7000, 8000, 9000]
  assert.deepEqual(await Promise.all(counts.map((count) => scanned(thread, count))), counts)
  const body = Buffer.from(JSON.stringify({ values: new Array(5000).fill('.'.repeat(60)) }))
  assert.equal(await thread.gapIn({ owner: 'o', body }, ['values[]']), undefined)
  await thread.close()
})

test('a body that cannot be sent, first or while others are scanned, is refused alone', async () => {
  for (const failing of [1, 2, 3, 4]) {
    let posts = 0
    const thread = new ScanThread(() => {
      const worker = newWorker()
      const post = worker.postMessage.bind(worker)
      return Object.assign(worker, {
        postMessage: (...sent: Parameters<typeof post>): void => {
          if (++posts === failing) throw new RangeError('no memory')
          post(...sent)
        },
      })
    })
    const counts = [5000, 6000, 7000, 8000]
    const found = await Promise.allSettled(counts.map((count) => scanned(thread, count)))
    assert.deepEqual(
      found.map((each) => (each.status === 'fulfilled' ? each.value : each.reason.message)),
      counts.map((count, i) => (i + 1 === failing ? 'no memory' : count)),
    )
    assert.equal(await scanned(thread, 9000), 9000)
    await thread.close()
  }
})
