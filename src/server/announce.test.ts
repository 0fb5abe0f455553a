import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type SimNode, withWorld } from '../../test/sim/nodes.ts'
import { randomHex, systemClock } from '../clock.ts'
import { type Keyring, newRootKey } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import type { CommitResult } from '../ledger/ledger.ts'
import { SILENT } from '../log.ts'
import { until } from '../waiting.ts'
import { announceAgain, commitBoot } from './announce.ts'
import { type RunningNode, runningNode } from './running-node.ts'
import type { NodeServices } from './services.ts'

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

/** A ready node without owners, whose rewrap fails. */
function ready({ replica, clock }: SimNode, { keyring, log, rewrap }: Announcing): RunningNode {
  const parts = {
    config: { node: 'n1', fields: [] },
    stop: new AbortController(),
    owners: [],
    clock,
    keyring,
    log,
  }
  const node = runningNode({
    ...parts,
    fail: (error: Error) => assert.fail(error),
  } as unknown as RunningNode) // uses no other part of the node
  return Object.assign(node, { waitingFor: '', services: { replica, rewrap } })
}

type Announcing = Pick<RunningNode, 'keyring' | 'log'> & Pick<NodeServices, 'rewrap'>

test('a failed rewrap is logged as a failed rewrap, with the next step; a failed announcement as such', () =>
  withWorld(1, async (world, sim) => {
    const logged: string[] = []
    const error = (fields: object, message: string): void =>
      void logged.push(JSON.stringify([fields, message]))
    const keyring = world.keyring.askRewrap(true)
    const fails = { hint: 'activate the same root key' }
    const rewrap = (): Promise<never> => Promise.reject(new OperatorError('others wrap', fails))
    const node = ready(sim, { keyring, log: { ...SILENT, error }, rewrap })
    announceAgain(node)
    assert.ok(await until(() => logged.length > 0, { every: 5, within: 5000 }))
    assert.match(logged[0], /others wrap: activate the same root key.*rewrap/)
    assert.doesNotMatch(logged[0], /announced/)
    await node.background.close()
    const commit = (): Promise<never> => Promise.reject(new OperatorError('no announcement', fails))
    sim.way.through = commit
    const other = ready(sim, { keyring, log: { ...SILENT, error }, rewrap })
    announceAgain(other)
    assert.ok(await until(() => logged.length > 1, { every: 5, within: 5000 }))
    assert.match(logged[1], /no announcement: activate the same root key.*could not be announced/)
    await other.background.close()
    assert.equal(logged.length, 2)
  }))
