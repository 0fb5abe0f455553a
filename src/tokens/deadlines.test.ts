// A request for tokens has one deadline through all its steps. Segments that were not sent by then leave their
// queue and are never sent.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { by, soon } from '../../test/deadlines.ts'
import { OWNER, type SimNode, type World, withWorld } from '../../test/sim/nodes.ts'
import { type Deadline, systemClock } from '../clock.ts'
import { Values } from '../crypto/canonical.ts'
import { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import { TokenService } from './tokens.ts'

const LONG_MS = 60_000

type Parts = { readonly world: World; readonly node: SimNode; readonly tokens: TokenService }

function withTokens(run: (parts: Parts) => Promise<void>): Promise<void> {
  return withWorld(1, async (world, node) => {
    const tokens = new TokenService(node.replica, () => world.keyring, node.clock)
    await tokens.openFirst(by(OWNER))
    await node.replica.barrier(soon())
    await run({ world, node, tokens })
  })
}

function issue(tokens: TokenService, deadline: Deadline, ...texts: string[]): Promise<unknown> {
  const values = new Values()
  for (const text of texts) values.pushString(text, 1 << 16)
  return tokens.tokenize({ owner: OWNER, deadline }, values, true)
}

async function mappings({ node }: Parts): Promise<number> {
  await node.replica.barrier(soon())
  return node.replica.contents.mappings
}

test('a segment behind one without an answer leaves at its deadline, and never reaches the ledger', () =>
  withTokens(async (parts) => {
    const { world, tokens } = parts
    world.ledger.faults.push('silent')
    const began = performance.now()
    const sent = issue(tokens, soon(600), 'sent')
    const waiting = [issue(tokens, soon(30), 'a', 'b'), issue(tokens, soon(LONG_MS), 'c')]
    await Promise.all(waiting.map((each) => assert.rejects(each, LedgerUnavailable)))
    assert.ok(performance.now() - began < 400, 'before the segment in flight has ended')
    await assert.rejects(sent, UnknownOutcome)
    world.ledger.settle()
    assert.equal(await mappings(parts), 1)
    await issue(tokens, soon(), 'a', 'd') // what has left is issued again
    assert.equal(await mappings(parts), 3)
  }))

test('a request of which a part was sent is unknown, whichever part is refused first', () =>
  withTokens(async (parts) => {
    const { world, tokens } = parts
    world.ledger.faults.push('refuse', ...new Array<'silent'>(100).fill('silent'))
    const many = Array.from({ length: 30_000 }, (_, i) => `a longer value that fills segments ${i}`)
    await assert.rejects(issue(tokens, soon(1500), ...many), UnknownOutcome)
    world.ledger.faults.length = 0
    world.ledger.settle()
    assert.ok((await mappings(parts)) < many.length / 2, 'segments that waited were never sent')
  }))

test('a request that joins a segment already sent waits no longer than its own deadline', () =>
  withTokens(async ({ world, tokens }) => {
    world.ledger.faults.push('silent')
    const first = issue(tokens, soon(400), 'x')
    await new Promise((resolve) => setImmediate(resolve))
    const began = performance.now()
    await assert.rejects(issue(tokens, soon(20), 'x'), UnknownOutcome)
    assert.ok(performance.now() - began < 300)
    await assert.rejects(first, UnknownOutcome)
  }))

test('a rotation has one deadline: a slow barrier leaves its commit only the rest', () =>
  withTokens(async ({ world, node, tokens }) => {
    node.way.asking = async () => {
      await new Promise((resolve) => setTimeout(resolve, 150))
      return world.ledger.head()
    }
    world.ledger.faults.push('silent')
    const began = performance.now()
    await assert.rejects(tokens.rotate({ owner: OWNER, deadline: soon(250) }, 2), UnknownOutcome)
    assert.ok(performance.now() - began < 390, `${performance.now() - began} ms`)
    node.way.asking = undefined
  }))

test('after its deadline a request sends nothing, whatever step it has reached', () =>
  withTokens(async ({ world, node, tokens }) => {
    let passed = false
    const clock = { ...systemClock, monotonic: () => (passed ? LONG_MS : 0) }
    node.way.asking = () => {
      passed = true // the process stands still while it waits for the head
      return world.ledger.head()
    }
    const { sent } = node.way
    await assert.rejects(tokens.rotate(by(OWNER, clock), 2), LedgerUnavailable)
    assert.equal(node.way.sent, sent)
    node.way.asking = undefined
    assert.equal((await tokens.epochs(by(OWNER))).active, 1)
  }))
