// What a start reads: after a clean stop nothing that the stop vouches for, after a kill everything. A page damaged
// while the node was down is found either way, in the ledger and in the replica.
import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync, readFileSync, statSync, utimesSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readTokenText } from '../../src/crypto/token.ts'
import { CleanStop } from '../../src/replica/clean-stop.ts'
import { Vault } from './child.ts'

const values = Array.from({ length: 3000 }, (_, i) => `value ${i}`)
const vault = new Vault()
const ledger = join(vault.data, 'ledger', 'data.mdb')
const replica = join(vault.data, 'replica', 'data.mdb')
/** From the body of slot 7 to a sealed value of the page. */
const SEALED = 16 * 26
let tokens: string[] = []
let digest = ''

/**
 * Flips the first byte of a stored token body, or a byte `offset` bytes on, in every copy: LMDB leaves older
 * copies of a page behind.
 */
function flipByte(file: string, offset = 0): void {
  const body = new Uint8Array(16)
  readTokenText(Buffer.from(tokens[7]), 0, tokens[7].length, body, new Uint8Array(4), 0)
  const bytes = readFileSync(file)
  const { atime, mtime } = statSync(file)
  const opened = openSync(file, 'r+')
  let copies = 0
  const rest = body.subarray(1)
  for (let at = bytes.indexOf(rest); at >= 0; at = bytes.indexOf(rest, at + 1), copies++)
    writeSync(opened, Buffer.of(bytes[at - 1 + offset] ^ 1), 0, 1, at - 1 + offset)
  closeSync(opened)
  utimesSync(file, atime, mtime) // no time but the ctime shows the write
  assert.ok(copies > 0)
}

const rebuilds = (): number =>
  readFileSync(join(vault.data, 'events.ndjson'), 'utf8').split('"event":"replica.rebuilt"').length - 1

async function assertServes(): Promise<void> {
  assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
  assert.equal(await vault.digest(), digest)
}

/** As a clean stop would: the files are whole, says the note, whatever is in them. */
async function vouch(): Promise<void> {
  const stop = CleanStop.take(vault.data)
  for (const file of [ledger, replica]) stop.add(file)
  await stop.write()
}

describe('what a start reads', () => {
  before(async () => {
    await vault.start()
    tokens = (await vault.tokenize(values)).tokens
    await vault.tokenize(['last']) // a start reads the last segment, by which the ledger is known again
    digest = await vault.digest()
    await vault.end()
  })
  after(() => vault.remove())

  test('a clean stop leaves a note of both files, a start removes the note', async () => {
    const note = join(vault.data, 'clean-stop.json')
    assert.deepEqual(Object.keys(JSON.parse(readFileSync(note, 'utf8'))), [
      'ledger/data.mdb',
      'replica/data.mdb',
    ])
    assert.equal(statSync(note).mode & 0o777, 0o600)
    await vault.start()
    await assertServes()
    assert.ok(!existsSync(note))
    await vault.end('SIGKILL')
    assert.ok(!existsSync(note))
    await vault.start()
    await assertServes()
    await vault.end()
    assert.ok(existsSync(note))
  })

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`a replica damaged after ${signal} is rebuilt, and what was set aside goes`, async () => {
      await vault.start()
      await vault.end(signal)
      flipByte(replica)
      const before = rebuilds()
      await vault.start()
      await assertServes()
      assert.equal(rebuilds(), before + 1)
      assert.match(vault.log, /replicas set aside are removed/)
      assert.ok(!existsSync(join(vault.data, 'replica.damaged')))
      await vault.end()
    })

    test(`a ledger damaged after ${signal} ends the start`, async () => {
      await vault.start()
      await vault.end(signal)
      flipByte(ledger)
      await assert.rejects(vault.start(), /the ledger in .* is damaged .*restore a backup/s)
      flipByte(ledger)
      await vault.start()
      await assertServes()
      await vault.end()
    })
  }

  test('what a stop vouches for is not read through; after a kill all is read', async () => {
    flipByte(ledger)
    await vouch()
    await vault.start()
    await assertServes()
    await vault.end('SIGKILL')
    await assert.rejects(vault.start(), /the ledger in .* is damaged/)
    await assert.rejects(vault.start(), /the ledger in .* is damaged/)
    flipByte(ledger)
    await vault.start()
    await vault.end()
  })

  test('damage that a running node meets in a file vouched for is found by the next start', async () => {
    flipByte(replica, SEALED)
    await vouch()
    const before = rebuilds()
    await vault.start()
    assert.equal(rebuilds(), before)
    await vault.detokenize(tokens).catch(() => undefined) // ends the node
    await vault.end()
    await vault.start()
    await assertServes()
    assert.equal(rebuilds(), before + 1)
    await vault.end()
  })
})
