// The blocking vault before a server that is not a vault, in a process of its own: the calling thread stands still.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { BlockingVault, type Body, VaultError } from './vault-thread.ts'

/** Answers when two requests are there, the later one first; each token of a request is its own value. */
const TWO_AT_ONCE = `
  const held = []
  const server = require('node:http').createServer((request, response) => {
    let text = ''
    request.on('data', (part) => { text += part })
    request.on('end', () => {
      held.push(() => {
        const { tokens } = JSON.parse(text)
        const refused = tokens.includes('refused')
        response.writeHead(refused ? 422 : 200, { 'content-type': 'application/json' })
        const problem = { type: '/problems/invalid-value', title: 't', status: 422, detail: 'd', instance: 'i' }
        response.end(JSON.stringify(refused ? problem : { values: tokens }))
      })
      if (held.length === 2) for (const answer of held.splice(0).reverse()) answer()
    })
  })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
`

/** Answers each request after a while, with the tokens as values of 32 KiB. */
const SLOWLY = `
  const server = require('node:http').createServer((request, response) => {
    let text = ''
    request.on('data', (part) => { text += part })
    request.on('end', () => setTimeout(() => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ values: JSON.parse(text).tokens.map((token) => token.padEnd(32768)) }))
    }, 300))
  })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
`

/** Refuses every `tokenize`, and answers `detokenize` with the tokens as values. */
const DETOKENIZES_ONLY = `
  const server = require('node:http').createServer((request, response) => {
    let text = ''
    request.on('data', (part) => { text += part })
    request.on('end', () => {
      const refused = request.url === '/tokenize'
      response.writeHead(refused ? 403 : 200, { 'content-type': 'application/json' })
      const problem = { type: '/problems/quota-exceeded', title: 't', status: 403, detail: 'd', instance: 'i' }
      response.end(JSON.stringify(refused ? problem : { values: JSON.parse(text).tokens }))
    })
  })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
`

type Served = { readonly server?: string; readonly silentMs?: number }

/** More than a request takes, and less than all requests of a question. */
const SILENT_MS = 1000

async function withServer(
  run: (vault: BlockingVault) => void,
  { server = TWO_AT_ONCE, silentMs }: Served = {},
): Promise<void> {
  const child = spawn(process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [port] = await once(child.stdout, 'data')
  const vault = new BlockingVault({ urls: `http://127.0.0.1:${String(port).trim()}`, key: 'k' }, silentMs)
  try {
    run(vault)
  } finally {
    await vault.close()
    child.kill()
    await once(child, 'close')
  }
}

function asking(...tokens: readonly string[]): Body {
  const body = new TextEncoder().encode(JSON.stringify({ tokens }))
  return { operation: 'detokenize', count: tokens.length, body }
}

/** The answers as they are taken. Throws where an answer is taken after a failure. */
function taken(vault: BlockingVault, questions: readonly Body[]): string[][] {
  const all: string[][] = []
  vault.askColumns(questions, (question, { bytes, starts, ends }) => {
    assert.equal(question, questions[all.length], 'in order, without a gap')
    all.push([...starts].map((start, i) => Buffer.from(bytes.subarray(start, ends[i])).toString()))
  })
  return all
}

test('questions are under way at the same time, and their answers are taken in order', () =>
  withServer((vault) => {
    const questions = (): Body[] => [asking('a', 'b'), asking('c')]
    assert.deepEqual(taken(vault, questions()), [['a', 'b'], ['c']])
    assert.deepEqual(taken(vault, questions()), [['a', 'b'], ['c']], 'again')
  }))

test('of a failed question no later answer is taken, and none is left for the next question', () =>
  withServer((vault) => {
    assert.throws(() => taken(vault, [asking('refused'), asking('d')]), VaultError)
    assert.deepEqual(taken(vault, [asking('e'), asking('f')]), [['e'], ['f']])
  }))

test('a refused operation leaves the others alone', () =>
  withServer(
    (vault) => {
      const tokenize = { operation: 'tokenize', values: ['a'] } as const
      assert.throws(() => vault.ask(tokenize), /quota-exceeded/)
      assert.deepEqual(taken(vault, [asking('b')]), [['b']])
      assert.throws(() => vault.ask(tokenize), /quota-exceeded/)
    },
    { server: DETOKENIZES_ONLY },
  ))

test('a slow vault is waited for while answers to parts of a question come', () =>
  withServer(
    (vault) => {
      const values = Array.from({ length: 256 }, (_, i) => `t${i}`)
      const began = performance.now()
      const { answers } = vault.ask({ operation: 'detokenize', values })
      assert.deepEqual(
        answers.map((answer) => String(answer).trimEnd()),
        values,
      )
      assert.ok(performance.now() - began > 2 * SILENT_MS, 'no part alone takes so long')
    },
    { server: SLOWLY, silentMs: SILENT_MS },
  ))
