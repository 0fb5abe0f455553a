// The bytes of a node's own files: pages, checkpoints, backups, wrapped keys. Damage is found, and says so by a typed
// error; forged bytes with right checksums are no internal error either.
import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { BackupError } from '../../src/backup/file.ts'
import { systemClock } from '../../src/clock.ts'
import { Keyring, UnknownRootKey, UnwrapError } from '../../src/crypto/keyring.ts'
import { readCheckpoint, writeCheckpoint } from '../../src/replica/checkpoint.ts'
import type { CheckpointFiles } from '../../src/replica/store.ts'
import { TokenTable } from '../../src/replica/table.ts'
import { encodePages, pageIsWhole, pageTable, sizeOf } from '../../src/state/page.ts'
import { CorruptEntry, OtherFormat } from '../../src/state/writer.ts'
import {
  backupOf,
  bytesOf,
  filled,
  framesOf,
  keyring,
  put,
  sealed,
  verified,
  version,
} from '../backup/backups.ts'
import { packed, segmentOf } from './codecs.ts'
import { damage, damaged, type Target } from './target.ts'

/** With the checksum that fits, as nobody but a forger makes it. */
function withChecksum(page: Buffer, number: number): Buffer {
  if (page.length >= 4) page.writeUInt32LE(crc32(page.subarray(4), number), 0)
  return page
}

type Mapping = { readonly words: Uint32Array; readonly page: number; readonly slot: number }
const mapping: fc.Arbitrary<Mapping> = fc.record({
  words: fc.uint32Array({ minLength: 4, maxLength: 4 }),
  page: fc.nat(1000),
  slot: fc.nat(31),
})

function tableOf(mappings: readonly Mapping[]): TokenTable {
  const table = new TokenTable()
  for (const { words, page, slot } of mappings) table.insert(words, 0, page, slot)
  return table
}

/** A directory of one checkpoint, in memory; `block` cuts the bytes that are read. */
class OneFile implements CheckpointFiles {
  bytes = Buffer.alloc(0)
  readonly #block: number

  constructor(block: number) {
    this.#block = block
  }

  async hasRoom(): Promise<boolean> {
    return true
  }

  async write(_name: string, blocks: AsyncIterable<Buffer>): Promise<void> {
    const parts: Buffer[] = []
    for await (const block of blocks) parts.push(Buffer.from(block))
    this.bytes = Buffer.concat(parts)
  }

  async *read(): AsyncIterable<Buffer> {
    for (let at = 0; at < this.bytes.length; at += this.#block)
      yield this.bytes.subarray(at, at + this.#block)
  }

  async removeOthers(): Promise<void> {}
}

/** All mappings of all tables, in the order of their slots. */
function contents(tables: Iterable<readonly [number, TokenTable]>): string[] {
  return [...tables].flatMap(([table, tokens]) =>
    tokens
      .parts()
      .map(({ depth, words }) => `${table} ${depth} ${Buffer.from(words.buffer).toString('hex')}`),
  )
}

const isRefusal = (error: unknown): boolean =>
  [BackupError, OtherFormat, UnknownRootKey, CorruptEntry].some((type) => error instanceof type)

const original = filled(3).then(async (ledger) => {
  for (let n = 1; n <= 3; n++) await put(ledger, version('app/DB_URL', n))
  return (await backupOf(ledger)).bytes
})

async function refusedOrSame(bytes: Buffer, whole: Buffer): Promise<void> {
  try {
    await verified(bytes)
  } catch (error) {
    if (isRefusal(error)) return
    throw error
  }
  assert.ok(bytes.equals(whole), 'a changed backup is refused')
}

export const FILES: readonly Target[] = [
  {
    name: 'pages: whole as written, and only so; forged ones are read within their bytes',
    inputs: 3000,
    property: () =>
      fc.property(packed, fc.nat(0xffff_ffff), fc.nat(1e9), damage, (list, table, first, steps) => {
        for (const [i, page] of encodePages(segmentOf(list), table, first).entries()) {
          assert.ok(pageIsWhole(page, page.length, first + i))
          assert.equal(pageTable(page), table)
          assert.equal(sizeOf(page, 0), list.sizes[i * 32])
          assert.ok(!pageIsWhole(page, page.length, first + i + 1))
          const other = damaged(page, steps)
          assert.equal(pageIsWhole(other, other.length, first + i), other.equals(page))
          pageIsWhole(withChecksum(other, first), other.length, first)
        }
      }),
  },
  {
    name: 'checkpoints: read as written; damaged: not used, or the same tables',
    inputs: 400,
    property: () =>
      fc.asyncProperty(
        fc.array(fc.array(mapping, { maxLength: 80 }), { maxLength: 4 }),
        fc.integer({ min: 1, max: 5000 }),
        damage,
        async (lists, block, steps) => {
          const files = new OneFile(block)
          const name = '0123456789abcdef'
          const tables = lists.map((list, id) => ({ id, table: tableOf(list) }))
          await writeCheckpoint(files, name, tables)
          const whole = contents(tables.map(({ id, table }) => [id, table]))
          const read = async (): Promise<string[] | undefined> => {
            const found = await readCheckpoint(files, name, 5000)
            return found && contents([...found].map(([id, { tokens }]) => [id, tokens]))
          }
          assert.deepEqual(await read(), whole)
          files.bytes = damaged(files.bytes, steps)
          const again = await read()
          if (again !== undefined) assert.deepEqual(again, whole)
        },
      ),
  },
  {
    name: 'backups: changed in any way, or any bytes: refused by a typed error',
    inputs: 700,
    property: () =>
      fc.asyncProperty(damage, fc.uint8Array({ maxLength: 300 }), async (steps, any) => {
        const whole = await original
        await refusedOrSame(damaged(whole, steps), whole)
        await refusedOrSame(Buffer.concat([whole.subarray(0, 16), any]), whole)
      }),
  },
  {
    name: 'backups: frames changed by somebody without the keyring, or with it: no internal error',
    inputs: 500,
    property: () =>
      fc.asyncProperty(fc.nat(), damage, fc.boolean(), async (at, steps, withKeyring) => {
        const whole = await original
        const frames = framesOf(whole)
        const i = at % frames.length
        const parts = frames.with(i, { ...frames[i], body: damaged(frames[i].body, steps) })
        const file =
          withKeyring && i > 0 ? sealed(parts) : Buffer.concat([bytesOf(parts), whole.subarray(-32)])
        try {
          await verified(file)
        } catch (error) {
          if (!isRefusal(error)) throw error
        }
      }),
  },
  {
    name: 'wrapped keys: opened as wrapped; damaged, or under other parts: refused',
    inputs: 3000,
    property: () =>
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 64 }),
        fc.array(fc.string({ unit: 'binary' }), { maxLength: 3 }),
        damage,
        (secret, parts, steps) => {
          const wrapped = keyring.wrap(secret, parts, systemClock)
          assert.deepEqual(keyring.unwrap(wrapped, parts), secret)
          const other = damaged(wrapped, steps)
          const isRefused = (error: unknown): boolean =>
            error instanceof UnwrapError || error instanceof UnknownRootKey
          if (!other.equals(wrapped)) assert.throws(() => keyring.unwrap(other, parts), isRefused)
          assert.throws(() => keyring.unwrap(wrapped, [...parts, '']), isRefused)
        },
      ),
  },
  {
    name: 'keyring files: damaged: refused without a key, or another valid keyring',
    inputs: 1500,
    property: () =>
      fc.property(damage, (steps) => {
        const text = damaged(Buffer.from(keyring.serialize()), steps).toString('utf8')
        try {
          const again = Keyring.parse(text)
          assert.equal(Keyring.parse(again.serialize()).serialize(), again.serialize())
        } catch (error) {
          assert.equal((error as Error).name, 'KeyringError', String(error))
          for (const { key } of keyring.rootKeys)
            assert.ok(!(error as Error).message.includes(Buffer.from(key).toString('base64').slice(0, 12)))
        }
      }),
  },
]
