// Bodies in pieces of any size come out whole, and the memory of a large body's pieces is free at once.
import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type Random, seeded } from '../../test/sim/seed.ts'
import { receive } from './receive.ts'

const MOST = 8 * 1024 * 1024
const BLOCK = Buffer.alloc(16_384)

/** Sends pieces as the body of a request. Returns the body as received, and the bytes taken. */
async function received(pieces: readonly Buffer[], gzip = false): Promise<{ body: Buffer; taken: number }> {
  const request = new IncomingMessage(new Socket())
  request.complete = true
  let taken = 0
  const take = (bytes: number): void => {
    taken += bytes
  }
  const whole = receive(request, { gzip, most: MOST, take, arrived: () => undefined })
  for (const piece of pieces) request.push(piece)
  request.push(null)
  return { body: await whole, taken }
}

function bytes(size: number, random: Random): Buffer {
  const all = Buffer.allocUnsafeSlow(size)
  for (let i = 0; i < size; i++) all[i] = random.below(256)
  return all
}

/** Pieces of all sizes: half of the cases with memory of their own, as of a socket, half parts of `whole`. */
function piecesOf(whole: Buffer, random: Random): Buffer[] {
  const most = random.pick([2000, 16_384, 65_536, 300_000])
  const own = random.chance(0.5)
  const pieces: Buffer[] = []
  for (let at = 0; at < whole.length; ) {
    const piece = whole.subarray(at, at + 1 + random.below(most))
    pieces.push(own ? Buffer.from(new Uint8Array(piece).buffer) : piece)
    at += piece.length
  }
  return pieces
}

test('any body in any pieces comes out whole, and is counted', async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  for (let round = 0; round < 60; round++) {
    const whole = bytes(random.below(random.pick([2, 5000, 300_000, 2_500_000])), random)
    const expected = Buffer.from(whole)
    const { body, taken } = await received(piecesOf(whole, random))
    assert.ok(body.equals(expected), `round ${round}`)
    assert.equal(taken, expected.length)
    assert.ok(whole.equals(expected), 'pieces that share their memory are left alone')
    const inflated = await received(piecesOf(gzipSync(expected), random), true)
    assert.ok(inflated.body.equals(expected), `round ${round}, gzip`)
    assert.equal(inflated.taken, expected.length)
  }
})

test('the pieces of a large body hold no memory while the rest arrives', async () => {
  const pieces = Array.from({ length: 64 }, () => Buffer.alloc(65_536, 'x'))
  await received(pieces)
  const held = pieces.reduce((sum, { buffer }) => sum + buffer.byteLength, 0)
  assert.ok(held <= 256 * 1024 + 65_536, `${held} bytes`)
})

test('bytes behind the gzip data are refused, zeros too, whether the rest of the body has arrived or not', async () => {
  const zipped = gzipSync('{"values":["a"]}')
  const zeros = Buffer.alloc(5000)
  const tails = [zeros, Buffer.concat([zeros.subarray(0, 1), Buffer.from('junk')]), Buffer.from('junk')]
  for (const tail of [...tails, Buffer.concat([gzipSync(' '), zeros])]) {
    for (const ended of [false, true]) {
      const request = new IncomingMessage(new Socket())
      let arrived = false
      const body = receive(request, {
        gzip: true,
        most: MOST,
        take: () => undefined,
        arrived: () => {
          arrived = true
        },
      })
      request.push(Buffer.concat([zipped, tail]))
      request.push(BLOCK) // a block is inflated once it is full
      if (ended) request.push(null)
      await assert.rejects(body, { slug: 'invalid-json' })
      assert.equal(arrived, ended)
    }
  }
})

test('a client that resets behind its last piece, before that is read: the wait ends', async () => {
  const zipped = gzipSync(bytes(300_000, seeded(1)))
  const request = new IncomingMessage(new Socket())
  const body = receive(request, { gzip: true, most: MOST, take: () => undefined, arrived: () => undefined })
  request.push(zipped)
  request.complete = true // the parser has seen the end
  request.destroy(new Error('aborted'))
  await assert.rejects(body, { slug: 'invalid-json' })
})
