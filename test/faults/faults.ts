// Faults of real processes, networks and disks. Each one happens under load, and is mended before it returns, as an
// operator would mend it; the last checks follow.
import { sleep } from '../../src/waiting.ts'
import { until } from '../cli/cli.ts'
import type { ClusterNode } from '../cluster/cluster.ts'
import type { Relay } from '../cluster/relay.ts'
import { sendSignal } from '../signals.ts'
import { check } from '../sim/violation.ts'
import { damage } from './damage.ts'
import { quota } from './quota.ts'
import type { Fault, Stage } from './stage.ts'

const MOST_MS = 4000
const FULL_MS = 6000
const ROOM_MS = 60_000
const SOME_CALLS = 40

const pause = (stage: Stage): Promise<void> => sleep(stage.random.below(MOST_MS))

/** A few nodes, in random order. */
function some(stage: Stage, count: number): ClusterNode[] {
  const rest = [...stage.nodes]
  return Array.from({ length: count }, () => rest.splice(stage.random.below(rest.length), 1)[0])
}

const others = (stage: Stage, node: ClusterNode): ClusterNode[] => stage.nodes.filter((each) => each !== node)

async function killed(stage: Stage, count: number): Promise<void> {
  const nodes = some(stage, count)
  await Promise.all(nodes.map((node) => node.kill()))
  if (count === 1) await stage.newToken(others(stage, nodes[0]))
  await pause(stage)
  await stage.cluster.startAll()
}

async function memberKilled(stage: Stage): Promise<void> {
  stage.anyNode().signalMember('SIGKILL')
  await stage.newToken(stage.nodes)
}

/** A vault that stands still meets a rotation when it wakes. */
async function stopped(stage: Stage, what: readonly ('vault' | 'member')[]): Promise<void> {
  const { clients, cluster, random } = stage
  const node = random.chance(0.5) ? stage.anyNode() : await cluster.leader()
  const pids = what.map((each) => (each === 'vault' ? node.process?.pid : node.memberPid))
  const isStill = what.includes('vault')
  const release = clients.hold(isStill ? [node.name] : [])
  for (const pid of pids) if (pid) sendSignal(pid, 'SIGSTOP')
  await sleep(1000 + random.below(6000))
  if (isStill) await stage.rotate(others(stage, node))
  await sleep(random.below(2000))
  for (const pid of pids) if (pid) sendSignal(pid, 'SIGCONT')
  release()
  if (isStill)
    for (const owner of clients.owners)
      await clients.ask(node, { kind: 'tokenize', owner, values: [`${stage.marker} woken`] })
}

/** From one node to the members, from the other members to one of them, or from the clients to the nodes. */
function line({ random, wires }: Stage): readonly Relay[] {
  return random.pick([
    random.pick(wires.ledger),
    random.pick(wires.ledger),
    wires.clients,
    [random.pick(wires.peers)],
  ])
}

/** Nodes behind the relays may answer late. */
function hold({ clients, nodes, wires }: Stage, relays: readonly Relay[]): () => void {
  const names = nodes.map(({ name }) => name)
  return clients.hold(names.filter((_, i) => relays.includes(wires.clients[i])))
}

async function relayed(stage: Stage, disturb: (relay: Relay) => void): Promise<void> {
  const all = line(stage)
  const relays = stage.random.chance(0.5) ? all : [stage.random.pick(all)]
  const release = hold(stage, relays)
  for (const relay of relays) disturb(relay)
  await sleep(1000 + stage.random.below(6000))
  for (const relay of relays) {
    Object.assign(relay, { silent: false, delay: 0, halved: false })
    relay.reset() // bytes are missing in the middle of the connections
  }
  release()
}

async function powerLost(stage: Stage, count: number): Promise<void> {
  const nodes = some(stage, count)
  const disks = nodes.map((node) => stage.disks[stage.nodes.indexOf(node)])
  const release = stage.clients.hold(nodes.map(({ name }) => name))
  for (const disk of disks) disk.lose()
  await Promise.all(nodes.map((node) => node.process?.[Symbol.asyncDispose]()))
  for (const disk of disks) await disk.comeBack()
  await stage.cluster.startAll()
  release()
}

/** With room again the node goes on by itself: the same process, and ready. */
async function diskFull(stage: Stage): Promise<void> {
  const node = stage.anyNode()
  const disk = stage.disks[stage.nodes.indexOf(node)]
  const { process: before } = node
  disk.fill(stage.random.pick([0, 1, 24]) * 1024 * 1024)
  await stage.goOn(SOME_CALLS)
  await sleep(FULL_MS)
  disk.drain()
  const isReady = async (): Promise<boolean> => {
    check(before?.child.exitCode === null, `${node.name} has ended, with a full disk`)
    return (await node.reasons()).length === 0
  }
  await until(`${node.name} is ready, with room on its disk`, isReady, ROOM_MS)
}

export const FAULTS: readonly Fault[] = [
  { name: 'kill -9 of a node', run: (stage) => killed(stage, 1) },
  { name: 'kill -9 of two nodes', run: (stage) => killed(stage, 2) },
  { name: 'kill -9 of all nodes', run: (stage) => killed(stage, 3) },
  { name: 'SIGTERM and a new start', run: restarted },
  { name: 'kill -9 of a member', run: memberKilled },
  { name: 'SIGSTOP of a vault', run: (stage) => stopped(stage, ['vault']) },
  { name: 'SIGSTOP of a member', run: (stage) => stopped(stage, ['member']) },
  { name: 'SIGSTOP of a node and its member', run: (stage) => stopped(stage, ['vault', 'member']) },
  { name: 'a network that swallows', run: (stage) => relayed(stage, (relay) => (relay.silent = true)) },
  {
    name: 'a network that delays',
    run: (stage) => relayed(stage, (relay) => (relay.delay = 20 + stage.random.below(700))),
  },
  { name: 'a network that resets', run: reset },
  {
    name: 'a network that cuts answers in half',
    run: (stage) => relayed(stage, (relay) => (relay.halved = true)),
  },
  { name: 'API keys and root keys are changed', run: operated },
  { name: 'power loss of a node', needs: 'disks', run: (stage) => powerLost(stage, 1) },
  { name: 'power loss of all nodes', needs: 'disks', run: (stage) => powerLost(stage, 3) },
  { name: 'a full disk', needs: 'disks', run: diskFull },
  { name: 'a quota of the ledger that is used up', once: true, run: quota },
  ...damage,
]

async function restarted(stage: Stage): Promise<void> {
  const [node] = some(stage, 1)
  await node.process?.stop()
  await stage.newToken(others(stage, node))
  await stage.cluster.startAll()
}

async function reset(stage: Stage): Promise<void> {
  const relays = line(stage)
  for (let i = 0; i < 10; i++) {
    for (const relay of relays) relay.reset()
    await sleep(stage.random.below(400))
  }
}

async function operated(stage: Stage): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await stage.operator.mustWork()
    await stage.operator.check() // in force at once
  }
  await stage.goOn(SOME_CALLS)
}
