// Floors of the disk and of JSON: the embedded ledger alone, and parsing alone.

import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Deadline } from '../src/clock.ts'
import { Paths } from '../src/json/paths.ts'
import { scan } from '../src/json/scan.ts'
import { LmdbLedger } from '../src/ledger/lmdb.ts'
import { Body } from './load.ts'
import { inOrder } from './values.ts'
import { listValues } from './work.ts'

/** Commits a second of `bytes` each, `inFlight` at a time, each with a guard as a segment's. */
export async function ledgerCommits(
  dir: string,
  bytes: number,
  inFlight: number,
  seconds: number,
): Promise<number> {
  const path = join(dir, `ledger-${bytes}-${inFlight}`)
  mkdirSync(path)
  const ledger = new LmdbLedger(path)
  const value = randomBytes(bytes)
  let next = 0
  try {
    const started = performance.now()
    const worker = async (): Promise<void> => {
      while (performance.now() - started < seconds * 1000) {
        const key = `seg/${'0'.repeat(32)}/${String(++next).padStart(10, '0')}`
        const result = await ledger.commit(
          { if: [{ key, revision: 0 }], put: [{ key, value }] },
          Deadline.never,
        )
        if (!result.ok) throw new Error('a commit of the floor was refused')
      }
    }
    await Promise.all(Array.from({ length: inFlight }, worker))
    return (next * 1000) / (performance.now() - started)
  } finally {
    await ledger.close()
  }
}

/** Values a second out of bodies of `batch` values: by JSON.parse, and by the project's own scan. */
export function parsing(batch: number, seconds: number): { json: number; scan: number } {
  const body = new Body()
  const from = body.at
  listValues(body, 0, { batch, order: inOrder(0) })
  const bytes = body.bytes.subarray(from, body.at)
  const paths = new Paths(['records[]', 'values[]'])
  const rate = (work: () => number): number => {
    let values = 0
    for (const until = performance.now() + seconds * 300; performance.now() < until; ) work()
    const started = performance.now()
    while (performance.now() - started < seconds * 1000) values += work()
    return (values * 1000) / (performance.now() - started)
  }
  return {
    json: rate(() => JSON.parse(bytes.toString('utf8')).values.length),
    scan: rate(() => scan(bytes, paths).count),
  }
}
