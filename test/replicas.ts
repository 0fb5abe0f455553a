// A replica over a ledger in memory, for tests: entries of a ledger, and what a replica finds of them.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Deadline, systemClock } from '../src/clock.ts'
import { CheckedLedger } from '../src/ledger/checked.ts'
import { MemoryLedger } from '../src/ledger/memory.ts'
import { LmdbStore } from '../src/replica/lmdb-store.ts'
import { Replica, type ReplicaOptions } from '../src/replica/replica.ts'
import { lastFound } from '../src/replica/table.ts'
import { encodeEntry } from '../src/state/entries.ts'
import { ledgerKey } from '../src/state/ledger-keys.ts'
import { encodeSegment } from '../src/state/segment.ts'
import { mappingsOf } from './mappings.ts'
import { found } from './sim/genesis.ts'

export const BOOT = 'a'.repeat(32)

type Bench = {
  ledger: MemoryLedger
  open: (change?: Partial<ReplicaOptions>) => Promise<Replica>
  path: string
  told: string[]
}

export async function withReplica(run: (bench: Bench) => Promise<void>): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), 'coffer-replica-'))
  const ledger = new MemoryLedger()
  await found(ledger)
  const told: string[] = []
  const opened: Replica[] = []
  const open: Bench['open'] = async (change = {}) => {
    const replica = await Replica.open({
      store: new LmdbStore(path),
      ledger: new CheckedLedger(ledger),
      boot: BOOT,
      clock: systemClock,
      fatal: (error) => told.push(`fatal ${error.message}`),
      events: {
        lost: (reason) => told.push(`lost ${reason}`),
        recovered: () => told.push('recovered'),
        caughtUp: (from, to) => told.push(`caught-up ${from} ${to}`),
        epoch: (owner, epoch) => told.push(`epoch ${owner} ${epoch}`),
        applied: (node) => told.push(`applied ${node}`),
      },
      ...change,
    })
    opened.push(replica)
    replica.follow()
    return replica
  }
  try {
    await run({ ledger, open, path, told })
  } finally {
    for (const replica of opened) await replica.close()
    rmSync(path, { recursive: true })
  }
}

let n = 0

/** Puts a segment of `count` mappings whose bodies are made of `seed` and their index. */
export async function putSegment(
  ledger: MemoryLedger,
  seed: number,
  count: number,
  owner = 'o',
): Promise<void> {
  const writer = { boot: BOOT, commit: ++n }
  const words = bodiesOf(seed, count)
  const mappings = {
    ...mappingsOf(new Array(count).fill(2)),
    bodies: new Uint8Array(words.buffer),
    bytes: new Uint8Array(count * 16).fill(seed & 255),
  }
  const key = ledgerKey.segment(BOOT, n)
  const value = encodeSegment({ owner, epoch: 1, writer }, [{ mappings, from: 0, to: count }])
  await ledger.commit({ if: [{ key, revision: 0 }], put: [{ key, value }] }, Deadline.never)
}

function bodiesOf(seed: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count * 4 }, (_, i) => Math.imul(seed * 1000003 + i + 1, 2654435761))
}

export function assertFinds(replica: Replica, seed: number, count: number, owner = 'o'): void {
  const words = bodiesOf(seed, count)
  const reader = replica.reader()
  const table = replica.tokens(owner, 1)
  assert.ok(table)
  for (let i = 0; i < count; i++) {
    assert.ok(table.find(words, i * 4), `mapping ${i} of ${seed}`)
    assert.equal(reader.seek(lastFound.page, lastFound.slot), 2)
    const copy = new Uint8Array(16)
    reader.copy(copy, 0, 2)
    assert.deepEqual(copy, new Uint8Array(16).fill(seed & 255))
  }
}

export async function putEpoch(ledger: MemoryLedger, owner: string, epoch: number): Promise<void> {
  const writer = { boot: BOOT, commit: ++n }
  await ledger.commit(
    {
      if: [],
      put: [
        { key: ledgerKey.epoch(owner), value: encodeEntry({ kind: 'epoch', owner, active: epoch }, writer) },
        {
          key: ledgerKey.wrappedKey(owner, epoch),
          value: encodeEntry(
            {
              kind: 'key',
              owner,
              epoch,
              wrapped: Uint8Array.from([2, 4, ...Buffer.from('rk-1'), ...new Uint8Array(54)]),
              openedAt: `2026-01-0${epoch}T00:00:00.000Z`,
            },
            writer,
          ),
        },
      ],
    },
    Deadline.never,
  )
}
