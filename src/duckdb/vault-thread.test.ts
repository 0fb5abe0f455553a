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

async function withServer(run: (vault: BlockingVault) => void): Promise<void> {
  const child = spawn(process.execPath, ['-e', TWO_AT_ONCE], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [port] = await once(child.stdout, 'data')
  const vault = new BlockingVault({ urls: `http://127.0.0.1:${String(port).trim()}`, key: 'k' })
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
