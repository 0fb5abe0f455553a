import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type SimNode, withWorld } from '../../test/sim/nodes.ts'
import { randomHex, systemClock } from '../clock.ts'
import { type Keyring, newRootKey } from '../crypto/keyring.ts'
import type { CommitResult } from '../ledger/ledger.ts'
import { commitBoot } from './announce.ts'
import type { RunningNode } from './running-node.ts'

/** A start of node n1 as far as it announces itself. */
function start({ replica, clock }: SimNode, keyring: Keyring): Promise<void> {
  const node = { boot: randomHex(systemClock, 16), config: { node: 'n1', fields: [] }, keyring, clock }
  return commitBoot(node as unknown as RunningNode, replica) // uses no other part of the node
}

test('the first commit of a start that died comes late, and changes nothing', () =>
  withWorld(2, async (world, dead, alive) => {
    const late = Promise.withResolvers<() => Promise<CommitResult>>()
    dead.way.through = (_commit, send) => {
      late.resolve(send)
      return new Promise(() => undefined)
    }
    const before = world.keyring
    start(dead, before).catch(() => undefined) // without an answer
    const send = await late.promise
    const added = before.add(newRootKey(systemClock))
    const after = added.activate(added.ids[1]).remove(before.active)
    await start(alive, after)
    assert.equal(alive.replica.state.nodes.get('n1')?.active, after.active)
    assert.equal((await send()).ok, false)
    await start(alive, after) // every start after that is the newest
    assert.deepEqual(alive.replica.state.nodes.get('n1')?.rootKeys, after.ids)
  }))
