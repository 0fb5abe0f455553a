// Nodes die, stop in mid-air and come back, under load: nothing acknowledged is lost, nothing wrong is answered. Every
// scenario ends with the same checks (judge).
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Coffer, CofferError } from '../../src/client/index.ts'
import { until } from '../cli/cli.ts'
import { sendSignal } from '../signals.ts'
import { History } from '../sim/laws.ts'
import { Cluster, type ClusterNode } from './cluster.ts'

/** The whole of it: COFFER_ROUNDS=20. */
const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 3)
const CLIENTS = 16

const now = (): number => performance.now()

/** Clients with fail-over that tokenize new and known values and resolve tokens, each answer into the history. */
class Load {
  readonly history = new History()
  /** When each write was sent and answered. */
  readonly writes: { readonly sent: number; readonly answered: number }[] = []
  refused = 0
  readonly #stop = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  #n = 0

  start(cluster: Cluster): void {
    this.#running = Promise.all(Array.from({ length: CLIENTS }, (_, i) => this.#client(cluster, i)))
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #client(cluster: Cluster, i: number): Promise<void> {
    const urls = [0, 1, 2].map((j) => cluster.nodes[(i + j) % 3].url)
    const coffer = new Coffer({ urls, key: cluster.keys.a, timeoutMs: 15_000 })
    try {
      while (!this.#stop.signal.aborted) {
        const known = this.history.tokens
        if (known.length > 50 && this.#n % 4 === 0) await this.#resolve(coffer, known.length)
        else await this.#issue(coffer, [`value ${this.#n++}`, `shared ${this.#n % 50}`])
      }
    } finally {
      coffer.close()
    }
  }

  async #issue(coffer: Coffer, values: readonly string[]): Promise<void> {
    const sent = now()
    try {
      const { epoch, tokens } = await coffer.tokenize(values)
      const answered = now()
      this.writes.push({ sent, answered })
      for (const [i, value] of values.entries())
        this.history.issued({ owner: 'a', value, epoch, token: String(tokens[i]), asked: sent, answered })
    } catch (error) {
      this.#count(error)
    }
  }

  async #resolve(coffer: Coffer, known: number): Promise<void> {
    const { token } = this.history.tokens[(this.#n++ * 7919) % known]
    const asked = now()
    try {
      const { values } = await coffer.detokenize([token])
      this.history.resolved(token, 'a', values[0] === null ? undefined : String(values[0]), asked)
    } catch (error) {
      this.#count(error)
    }
  }

  /** A request that no node could answer in time is no wrong answer. */
  #count(error: unknown): void {
    if (!(error instanceof CofferError)) throw error
    assert.ok(error.retryable || error.status === 0, `${error.slug}: ${error.message}`)
    this.refused++
  }
}

/** All laws that can be judged from outside: every acknowledged token on every node, epochs, digests. */
async function judge(cluster: Cluster, history: History): Promise<void> {
  history.checkEpochs()
  const issued = history.tokens
  for (const node of cluster.nodes) {
    const { values, not_found } = await node.detokenize(issued.map(({ token }) => token))
    assert.deepEqual(not_found, [], `law 1: ${node.name} does not find all`)
    assert.deepEqual(
      values,
      issued.map(({ value }) => value),
    )
  }
  assert.equal((await cluster.digests()).size, 1, 'law 5: all digests are equal')
}

/** The longest time after `from` in which no write that was sent then was answered. */
function gapAfter(load: Load, from: number): number {
  const answered = load.writes.filter(({ sent }) => sent > from).map((each) => each.answered)
  return Math.min(...answered) - from
}

describe('failures', () => {
  let cluster: Cluster
  let nodes: readonly ClusterNode[]

  before(async () => {
    cluster = await Cluster.start()
    nodes = cluster.nodes
  })
  after(() => cluster[Symbol.asyncDispose]())

  test(`kill -9 of the leader's node under load, ${ROUNDS} times`, async (t) => {
    const gaps: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const load = new Load()
      load.start(cluster)
      const leader = await cluster.leader()
      await until('writes', () => load.writes.length > 100)
      const killed = now()
      await leader.kill()
      // What was sent before the member was gone may still be answered by it.
      const gone = now()
      await until('writes go on', () => load.writes.some(({ sent }) => sent > gone), 20_000)
      gaps.push(gapAfter(load, gone) + gone - killed)
      const before = load.writes.length
      await until('many writes', () => load.writes.length > before + 200, 20_000)
      await leader.start()
      await load.stop()
      await judge(cluster, load.history)
      const caught = leader.events().findLast(({ event }) => event === 'replica.caught-up')
      assert.ok(Number(caught?.to) > Number(caught?.from), 'the event log tells from where to where')
    }
    gaps.sort((a, b) => a - b)
    t.diagnostic(`writes again after ${gaps.map((ms) => `${Math.round(ms)} ms`).join(', ')}`)
    assert.ok(gaps[gaps.length - 1] < 20_000)
  })

  test('every node in turn is killed and catches up', async () => {
    for (const victim of nodes) {
      const load = new Load()
      load.start(cluster)
      await until('writes', () => load.writes.length > 100)
      await victim.kill()
      const before = load.writes.length
      await until('writes go on', () => load.writes.length > before + 200, 20_000)
      await victim.start()
      await load.stop()
      await judge(cluster, load.history)
    }
  })

  test('two of three are killed: what the third holds is answered, the rest is 503; then all is well', async () => {
    const { tokens: known } = await nodes[2].tokenize(['held by the third'])
    await cluster.digests()
    await nodes[0].kill()
    await nodes[1].kill()
    const forged = `${known[0].slice(0, -1)}${known[0].endsWith('0') ? '1' : '0'}`
    const degraded = async (third: ClusterNode): Promise<void> => {
      assert.deepEqual(await third.detokenize(known), { values: ['held by the third'], not_found: [] })
      assert.deepEqual(await third.detokenize([forged]), { values: [null], not_found: [0] })
      const asked = now()
      const refused = await Promise.all([
        third.ask('/tokenize', { values: ['new'] }),
        third.ask('/tokenize', { values: ['held by the third'] }),
        third.ask('/epochs'),
        third.ask('/rotate-epoch', { to: 2 }),
      ])
      assert.ok(now() - asked < 5000, `503 after ${now() - asked} ms`)
      for (const { status, json } of refused)
        assert.deepEqual([status, json.type], [503, '/problems/no-quorum'])
      const reasons = await until('not ready', async () => {
        const all = await third.reasons()
        return all.length > 0 ? all : undefined
      })
      assert.match(reasons.join(), /leader|ledger|etcdserver/)
      assert.equal((await third.ask('/ready?for=reads')).status, 200)
      assert.equal((await third.status()).quorum, false)
      assert.equal((await third.status()).leader, null)
    }
    await degraded(nodes[2])
    await nodes[2].kill()
    await nodes[2].begin()
    await until(
      'what is known is served',
      async () => (await nodes[2].ask('/ready?for=reads')).status === 200,
    )
    await degraded(nodes[2])
    await nodes[0].start()
    await until('ready', async () => (await nodes[2].reasons()).length === 0, 20_000)
    await nodes[2].tokenize(['new'])
    await nodes[1].start()
    assert.equal((await cluster.digests()).size, 1)
  })

  test("SIGSTOP of the leader's node and its member for 10 s", async () => {
    const load = new Load()
    load.start(cluster)
    const leader = await cluster.leader()
    const pids = [leader.process?.pid ?? 0, leader.memberPid]
    assert.ok(
      pids.every((pid) => pid > 0),
      'the node and its member run',
    )
    await until('writes', () => load.writes.length > 100)
    for (const pid of pids) sendSignal(pid, 'SIGSTOP')
    const stopped = now()
    await until('writes go on', () => load.writes.some(({ sent }) => sent > stopped + 50), 20_000)
    const [rest] = nodes.filter((node) => node !== leader)
    const { json } = await rest.ask('/epochs')
    const to = Number(json.active) + 1
    const asked = now()
    assert.deepEqual((await rest.ask('/rotate-epoch', { to })).json, { epoch: to, rotated: true })
    load.history.rotations.push({ owner: 'a', epoch: to, asked, answered: now() })
    await new Promise((resolve) => setTimeout(resolve, 10_000 - (now() - stopped)))
    for (const pid of pids) sendSignal(pid, 'SIGCONT')
    const resumed = load.writes.length
    await until('writes go on', () => load.writes.length > resumed + 200, 20_000)
    assert.equal((await leader.tokenize(['after the pause'])).epoch, to)
    await load.stop()
    await judge(cluster, load.history)
  })

  test('SIGSTOP of a vault process alone across a rotation: it obeys when it wakes', async () => {
    const [one, two] = nodes
    const load = new Load()
    load.start(cluster)
    await until('writes', () => load.writes.length > 100)
    const { json } = await two.ask('/epochs')
    const to = Number(json.active) + 1
    sendSignal(one.process?.pid, 'SIGSTOP')
    const asked = now()
    assert.deepEqual((await two.ask('/rotate-epoch', { to })).json, { epoch: to, rotated: true })
    load.history.rotations.push({ owner: 'a', epoch: to, asked, answered: now() })
    // These wait in the sockets of the one that is stopped, and are answered when it goes on.
    const late = Array.from({ length: 20 }, (_, i) => one.tokenize([i % 2 ? `late ${i}` : 'shared 1']))
    await new Promise((resolve) => setTimeout(resolve, 3000))
    sendSignal(one.process?.pid, 'SIGCONT')
    for (const answer of await Promise.all(late)) assert.equal(answer.epoch, to)
    await load.stop()
    await judge(cluster, load.history)
  })
})
