// The batching writer of the etcd driver, without an etcd: what waits, and what is handed to the member.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { Deadline } from '../clock.ts'
import { EtcdEndpoint, EtcdError } from './etcd-client.ts'
import { EtcdWrites } from './etcd-writes.ts'
import { type Commit, type CommitResult, LedgerUnavailable, UnknownOutcome } from './ledger.ts'

const put = (key: string): Commit => ({
  if: [{ key, revision: 0 }],
  put: [{ key, value: new Uint8Array(10) }],
})

/** Writes whose members are chosen, and whose answers come, when the test says so. */
class Member {
  /** The keys of each write, and its milliseconds. */
  readonly sent: { readonly keys: readonly string[]; readonly ms: number }[] = []
  choosing = Promise.withResolvers<string>()
  answering = Promise.withResolvers<void>()
  slow = (): void => undefined
  readonly writes = new EtcdWrites<string>({
    choose: () => this.choosing.promise,
    send: (member, commits, ms) => this.#send(member, commits, ms),
    slow: () => this.slow(),
  })

  async #send(member: string, commits: readonly Commit[], ms: number): Promise<readonly CommitResult[]> {
    assert.equal(member, 'm1')
    this.sent.push({ keys: commits.map((commit) => commit.put[0].key), ms })
    await this.answering.promise
    return commits.map((_, i) => ({ ok: true, revision: i + 1 }))
  }

  get keys(): string[] {
    return this.sent.flatMap(({ keys }) => keys)
  }
}

test('a commit leaves while a member is being chosen for its write, and the rest is sent', async () => {
  const member = new Member()
  const left = member.writes.commit(put('left'), soon(10))
  const kept = member.writes.commit(put('kept'), soon(60_000))
  await assert.rejects(left, LedgerUnavailable)
  member.choosing.resolve('m1')
  member.answering.resolve()
  assert.deepEqual(await kept, { ok: true, revision: 1 })
  assert.deepEqual(member.keys, ['kept'])
  assert.ok(member.sent[0].ms > 50_000, 'a write has the time of the last deadline in it')
})

test('a write whose commits have all left is not sent', async () => {
  const member = new Member()
  await assert.rejects(member.writes.commit(put('a'), soon(5)), LedgerUnavailable)
  member.choosing.resolve('m1')
  member.answering.resolve()
  assert.ok((await member.writes.commit(put('b'), Deadline.never)).ok)
  assert.deepEqual(member.keys, ['b'])
})

test('a commit that no member was chosen for is not sent; one without an answer is unknown', async () => {
  const member = new Member()
  const refused = member.writes.commit(put('refused'), Deadline.never)
  member.choosing.reject(new LedgerUnavailable('no-quorum', 'no member'))
  await assert.rejects(refused, /no member/)
  member.choosing = Promise.withResolvers()
  member.choosing.resolve('m1')
  const silent = member.writes.commit(put('silent'), soon(10))
  await assert.rejects(silent, UnknownOutcome)
  // Behind the small write that has no answer the others wait.
  const waiting = Array.from({ length: 3 }, (_, i) => member.writes.commit(put(`waiting/${i}`), soon(5 + i)))
  await Promise.all(waiting.map((each) => assert.rejects(each, LedgerUnavailable)))
  member.answering.resolve()
  assert.ok((await member.writes.commit(put('after'), Deadline.never)).ok)
  assert.deepEqual(member.keys, ['silent', 'after'])
})

test('bytes of commits that have left are not counted: small commits are gathered as before', async () => {
  const member = new Member()
  member.choosing.resolve('m1')
  const first = member.writes.commit(put('first'), Deadline.never)
  await new Promise((resolve) => setImmediate(resolve))
  const large: Commit = { if: [], put: [{ key: 'large', value: new Uint8Array(60_000) }] }
  for (let i = 0; i < 4; i++) await assert.rejects(member.writes.commit(large, soon(1)), LedgerUnavailable)
  const small = ['a', 'b'].map((key) => member.writes.commit(put(key), Deadline.never))
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(member.keys, ['first'], 'small commits wait for the small write in flight')
  member.answering.resolve()
  for (const each of [first, ...small]) assert.ok((await each).ok)
  assert.deepEqual(member.keys, ['first', 'a', 'b'])
})

test('closed writes do not ask about a slow write; the write still gets its answer', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const member = new Member()
  member.choosing.resolve('m1')
  const sent = member.writes.commit(put('slow'), Deadline.never)
  await new Promise((resolve) => setImmediate(resolve))
  let asked = 0
  member.slow = () => asked++
  const now = performance.now()
  t.mock.method(performance, 'now', () => now + 60_000)
  t.mock.timers.tick(200)
  assert.equal(asked, 1, 'the write is slow')
  member.writes.close()
  t.mock.timers.tick(60_000)
  assert.equal(asked, 1)
  member.answering.resolve()
  assert.ok((await sent).ok)
})

test('a call on a closed channel was not executed', async () => {
  const endpoint = new EtcdEndpoint('http://127.0.0.1:1')
  endpoint.close()
  for (const call of [endpoint.status(100), endpoint.txn({}, 100), endpoint.range({}, 100)])
    await assert.rejects(call, (error) => error instanceof EtcdError && error.executed === 'no')
})
