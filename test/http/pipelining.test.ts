// What comes behind a request on its connection, before the request is answered.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { answerBefore } from '../../src/http/answers-before.ts'
import { KEY_A, Vault } from './vault.ts'

let vault: Vault
before(async () => {
  vault = await Vault.start()
})
after(() => vault[Symbol.asyncDispose]())

function create(name: string): string {
  const body = JSON.stringify({ name, value: 'x' })
  const head = `Host: x\r\nAuthorization: Bearer ${KEY_A}\r\nContent-Type: application/json\r\n`
  return `POST /secrets HTTP/1.1\r\n${head}Content-Length: ${body.length}\r\n\r\n${body}`
}

function statuses(answers: string): string[] {
  return [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)
}

test('bytes that are no HTTP behind a write: the write is answered as done, then the bytes are refused', async () => {
  assert.deepEqual(statuses(await vault.raw(`${create('one')}no HTTP\r\n\r\n`)), ['201', '400'])
  const two = `${create('two')}${create('three')}GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n`
  assert.deepEqual(statuses(await vault.raw(two)), ['201', '201', '400'])
  assert.equal((await vault.get('/secrets/three')).status, 200)
})

test('CONNECT behind a request is refused after its answer, and the node lives on', async () => {
  const connect = 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n'
  assert.deepEqual(statuses(await vault.raw(`${create('four')}${connect}`)), ['201', '401'])
  const open = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n'
  assert.deepEqual(statuses(await vault.raw(`${open}${open}${connect}`)), ['200', '200', '401'])
  const refused = 'GET /secrets/x HTTP/1.1\r\nHost: x\r\n\r\n'
  assert.deepEqual(statuses(await vault.raw(`${refused}${connect}`)), ['401', '401'])
  assert.equal((await vault.get('/health')).status, 200)
})

test('an answer is before as long as the socket has it, as in Node before 24.20 after its end', () => {
  const socket = new Socket()
  const answer = { req: { complete: true }, writableFinished: true }
  assert.equal(
    answerBefore(Object.assign(socket, { _httpMessage: answer as unknown as ServerResponse })),
    answer,
  )
  assert.equal(answerBefore(new Socket()), undefined)
})

test('a method that Fastify does not know has an answer with a request id, too', async () => {
  assert.match(
    await vault.raw('PRI //!\r\n\r\n'),
    /^HTTP\/1\.1 4\d\d .*\r\nx-request-id: .*\r\nx-content-type-options: nosniff\r\n/s,
  )
})
