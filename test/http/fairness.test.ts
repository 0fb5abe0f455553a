// One owner at its worst: the other is served, and all bytes are given back. How long the other waits is for
// `npm run bench -- fairness`.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { bearer, IN_WORK, KEY_A, KEY_B, until, Vault } from './vault.ts'

const KIB = 1024
const MIB = 1024 * KIB
/** For conditions: a busy machine may need long. */
const WAIT_MS = 30_000
/** Half of the bytes in work holds two answers and two bodies. */
const LIMITS = { body_bytes: MIB, answer_bytes: 8 * MIB, bodies_in_work_bytes: 36 * MIB }

async function otherIsServed(vault: Vault): Promise<void> {
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, i) => vault.post('/tokenize', { values: [`other ${i}`] }, bearer(KEY_B))),
  )
  for (const { status, text } of answers) assert.equal(status, 200, text)
  assert.equal((await vault.get('/health')).status, 200)
}

const nothingInWork = (vault: Vault): Promise<void> =>
  until('nothing is in work', async () => (await vault.metric(IN_WORK)) === 0, WAIT_MS)

/** A request on a connection of its own, of which the answer's first bytes are kept and no more is read. */
function asked(vault: Vault, path: string, body: Buffer | string, length: number): Socket & { seen: string } {
  const { hostname, port } = new URL(vault.node.url)
  const socket = Object.assign(connect(Number(port), hostname), { seen: '' })
  socket.on('error', () => undefined)
  socket.once('data', (piece) => {
    socket.seen = piece.toString('latin1', 0, 12)
    socket.pause()
  })
  const head = [`POST ${path} HTTP/1.1`, 'Host: x', `Authorization: Bearer ${KEY_A}`]
  head.push('Content-Type: application/json', `Content-Length: ${length}`)
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  socket.write(body)
  return socket
}

test('gzip of arrays to /secrets: refused by the scan, with its place', async () => {
  await using vault = await Vault.start({ limits: LIMITS })
  const body = gzipSync(`{"secrets":[${'[[[[[[]]]]]],'.repeat(75_000)}1]}`)
  const headers = { 'content-encoding': 'gzip' }
  const all = Array.from({ length: 12 }, () => vault.post('/secrets', body, headers))
  await otherIsServed(vault)
  for (const { status, json } of await Promise.all(all)) {
    assert.deepEqual([status, json.type], [413, '/problems/too-many-values'])
  }
  await nothingInWork(vault)
})

test('answers that are never read are counted until they are gone', async () => {
  await using vault = await Vault.start({ limits: LIMITS })
  const token = await vault.token('x'.repeat(32 * KIB))
  const body = JSON.stringify({ tokens: Array(240).fill(token) })
  const sockets = Array.from({ length: 12 }, () => asked(vault, '/detokenize', body, body.length))
  await until('all are answered', () => sockets.every(({ seen }) => seen !== ''), WAIT_MS)
  const told = sockets.map(({ seen }) => seen.slice(9))
  assert.ok(told.includes('503') && told.includes('200'), told.join())
  await until('answers are in work', async () => (await vault.metric(IN_WORK)) >= 4 * MIB, WAIT_MS)
  await otherIsServed(vault)
  assert.ok((await vault.metric(IN_WORK)) <= LIMITS.bodies_in_work_bytes / 2)
  for (const socket of sockets) socket.destroy()
  await nothingInWork(vault)
})

test('bodies held one byte short: the half of their owner, and no more', async () => {
  await using vault = await Vault.start({ limits: LIMITS })
  const body = Buffer.alloc(MIB - 1, 0x20)
  const sockets = Array.from({ length: 24 }, () => asked(vault, '/tokenize', body, MIB))
  await until(
    'six are refused',
    () => sockets.filter(({ seen }) => seen.endsWith('503')).length >= 6,
    WAIT_MS,
  )
  await until('the others are held', async () => (await vault.metric(IN_WORK)) > 16 * MIB, WAIT_MS)
  await otherIsServed(vault)
  assert.ok((await vault.metric(IN_WORK)) <= LIMITS.bodies_in_work_bytes / 2)
  for (const socket of sockets) socket.destroy()
  await nothingInWork(vault)
})

test('small bodies of gzip hold what they inflate: a hundred at once are served', async () => {
  await using vault = await Vault.start({ limits: LIMITS })
  const body = gzipSync('{"values":["tiny"]}')
  const headers = { 'content-encoding': 'gzip' }
  const all = Array.from({ length: 100 }, () => vault.post('/tokenize', body, headers))
  await otherIsServed(vault)
  for (const { status, text } of await Promise.all(all)) assert.equal(status, 200, text)
  await nothingInWork(vault)
})

test('a body of pieces of one byte is counted and read as any other, plain and gzip', async () => {
  await using vault = await Vault.start({ limits: LIMITS })
  const { hostname, port } = new URL(vault.node.url)
  for (const [bytes, encoding] of [
    [Buffer.from(JSON.stringify({ values: Array(3000).fill('x') })), 'identity'],
    [gzipSync(JSON.stringify({ values: Array.from({ length: 3000 }, Math.random) })), 'gzip'],
  ] as const) {
    const socket = connect(Number(port), hostname)
    const head = `Host: x\r\nAuthorization: Bearer ${KEY_A}\r\nContent-Encoding: ${encoding}`
    const kept = 'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close'
    socket.write(`POST /tokenize HTTP/1.1\r\n${head}\r\n${kept}\r\n\r\n`)
    const chunks = [...bytes].map((byte) => Buffer.from([0x31, 13, 10, byte, 13, 10]))
    socket.write(Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')]))
    let answer = ''
    for await (const piece of socket) answer += piece
    assert.match(answer, /^HTTP\/1\.1 200 /)
    assert.equal(answer.match(/tok_1_/g)?.length, 3000)
  }
  await nothingInWork(vault)
})

test('the places of faults at the end of large bodies', async () => {
  await using vault = await Vault.start({ fields: ['ssn'] })
  const many = (text: string): string => `${text},`.repeat(4000)
  const long = `"${'x'.repeat(80)}"`
  const token = await vault.token('known')
  for (const [path, body, slug, place] of [
    ['/tokenize', `{"values":[${many(long)}{}]}`, 'not-a-scalar', 'values[4000]'],
    ['/tokenize', `{"values":[${many(long)}1e400]}`, 'invalid-value', 'values[4000]'],
    ['/tokenize', `{"values":[${many(long)}"${token}"]}`, 'already-a-token', 'values[4000]'],
    ['/tokenize', `{"records":[${many(`{"ssn":${long}}`)}7]}`, 'invalid-request', 'records[4000]'],
    ['/tokenize', `{"records":[${many(`{"ssn":${long}}`)}{"ssn":[]}]}`, 'not-a-scalar', 'records[4000].ssn'],
    ['/detokenize', `{"tokens":[${many(long)}7]}`, 'invalid-request', 'tokens[4000]'],
    ['/retokenize', `{"tokens":[${many(long)}{}]}`, 'invalid-request', 'tokens[4000]'],
    ['/secrets', `{"secrets":[{"x":[${many(long)}1]}]}`, 'invalid-request', 'secrets[0].x'],
  ]) {
    const { json } = await vault.post(path, body)
    assert.deepEqual([json.type, json.path], [`/problems/${slug}`, place], `${path} ${body.slice(-40)}`)
  }
  const lost = await vault.post('/detokenize', `{"records":[${many(`{"ssn":${long}}`)}{"ssn":"${token}"}]}`)
  assert.deepEqual(lost.json.not_found, [])
})
