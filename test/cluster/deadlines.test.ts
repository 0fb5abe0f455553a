// 503 within its time: three nodes on etcd, 64 clients, every call of the contract, under each way of losing the
// quorum. Each call is answered within 5 s of its last byte, and nothing is in the ledger of calls that were refused
// as `not-applied`, some time after the quorum is back. 300 calls for each fault, and 10 s of that: COFFER_CALLS=300.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { readTokenText } from '../../src/crypto/token.ts'
import { EtcdLedger } from '../../src/ledger/etcd.ts'
import { until } from '../cli/cli.ts'
import { Vault } from '../node/child.ts'
import { sendSignal } from '../signals.ts'
import { type Traces, tracesOf } from '../sim/traces.ts'
import { Etcd } from './etcd.ts'
import { GrpcRelay } from './grpc-relay.ts'
import { Relay } from './relay.ts'
import { type Asked, newAgent, type TimedAnswer, timedCall } from './timed-call.ts'

const CALLS = Number(process.env.COFFER_CALLS ?? 64)
const CLIENTS = 64
/** What the contract gives, and the way there and back. */
const ANSWER_MS = 5200
const SETTLE_MS = process.env.COFFER_CALLS === undefined ? 2000 : 10_000
/** How long the vault stands still: longer than a request may take. */
const STILL_MS = 5000
const READY_MS = 40_000

/** Kinds of calls, which come by turns. */
const KINDS = 22
const ROUNDS = Math.ceil((5 * CALLS) / KINDS)
/** An owner for each rotation: of two rotations of one owner nobody knows which had effect. */
const owner = (id: number): string => `r${Math.floor(id / KINDS)}`
const OWNERS = Array.from({ length: ROUNDS }, (_, round) => owner(round * KINDS))

/** A call, and whether traces show an effect. */
type Call = Asked & {
  readonly what: string
  readonly left?: (traces: Traces) => boolean
  /** New values, or tokens to be issued anew: what the ledger has of them is known once they are issued. */
  readonly values?: readonly string[]
  readonly tokens?: readonly string[]
}

type Prepared = {
  readonly known: readonly string[]
  /** Of the epoch before. */
  readonly old: readonly string[]
}

const post = (path: string, body: unknown): Pick<Call, 'method' | 'path' | 'body'> => ({
  method: 'POST',
  path,
  body,
})
const put = (name: string, value: string): Pick<Call, 'method' | 'path' | 'body'> => ({
  method: 'PUT',
  path: `/secrets/${name}`,
  body: { value },
})
const get = (path: string): Pick<Call, 'method' | 'path'> => ({ method: 'GET', path })

/** Every call of the contract. */
function callsOf(id: number, { known, old }: Prepared): readonly Omit<Call, 'owner'>[] {
  const values = Array.from({ length: 1 + (id % 20) }, (_, i) => `value ${id}/${i}`)
  const names = [`one-${id}`, `many-${id}/a`, `many-${id}/b`]
  const request = `request-${id}`
  const headers = { 'x-request-id': request }
  const once = { ...headers, 'idempotency-key': request }
  const wrote = ({ requests, secrets }: Traces): boolean =>
    requests.has(request) || names.some((name) => secrets.has(`a/${name}`))
  const secret = (name: string): object => ({ name, value: `of ${name}` })
  const token = known[id % known.length]
  const retokenized = [old[Math.floor(id / KINDS)]]
  const unknown = token.replace(/^tok_2_/, 'tok_9_')
  const many = { secrets: names.slice(1).map(secret) }
  return [
    { what: 'tokenize new', ...post('/tokenize', { values }), values },
    { what: 'tokenize known', ...post('/tokenize', { values: ['known 1', 'known 2'] }) },
    {
      what: 'tokenize records',
      ...post('/tokenize', { records: values.map((ssn) => ({ patient: { ssn } })) }),
      values,
    },
    { what: 'detokenize known', ...post('/detokenize', { tokens: [token] }) },
    { what: 'detokenize unknown', ...post('/detokenize', { tokens: [token, unknown] }) },
    { what: 'retokenize', ...post('/retokenize', { tokens: retokenized }), tokens: retokenized },
    {
      what: 'rotate',
      ...post('/rotate-epoch', { to: 2 }),
      left: ({ epochs }) => epochs.get(owner(id)) !== 1,
    },
    { what: 'epochs', ...get('/epochs') },
    { what: 'create', ...post('/secrets', secret(names[0])), headers, left: wrote },
    { what: 'create once', ...post('/secrets', secret(names[0])), headers: once, left: wrote },
    { what: 'create many', ...post('/secrets', many), headers, left: wrote },
    { what: 'create what is there', ...post('/secrets', secret('hot')), headers: once, left: wrote },
    { what: 'update', ...put('hot', 'x'), headers, left: wrote },
    { what: 'update once', ...put(`own-${id % 8}`, 'x'), headers: once, left: wrote },
    { what: 'update if', ...put('hot', 'x'), headers: { ...headers, 'if-match': '"1"' }, left: wrote },
    { what: 'update if any', ...put('hot', 'x'), headers: { ...once, 'if-match': '*' }, left: wrote },
    { what: 'latest', ...get('/secrets/hot') },
    { what: 'version', ...get('/secrets/hot?version=1') },
    { what: 'instant', ...get(`/secrets/hot?at=${new Date().toISOString()}`) },
    { what: 'history', ...get('/secrets/hot/history') },
    { what: 'list', ...get('/secrets?limit=10') },
    { what: 'resolve', ...post('/secrets/resolve', { refs: ['coffer://hot', 'coffer://hot@1'] }) },
  ]
}

/** Three members, each behind a relay of bytes before a relay of calls; three nodes that know all three. */
class Fleet {
  readonly etcds: readonly Etcd[]
  readonly grpc: readonly GrpcRelay[]
  readonly tcp: readonly Relay[]
  readonly vaults: readonly Vault[]
  readonly agent = newAgent()
  prepared: Prepared = { known: [], old: [] }
  #next = 0

  private constructor(parts: Pick<Fleet, 'etcds' | 'grpc' | 'tcp'>) {
    this.etcds = parts.etcds
    this.grpc = parts.grpc
    this.tcp = parts.tcp
    const keyring = Keyring.create(systemClock).serialize()
    const urls = this.tcp.map(({ url }) => `'${url}'`)
    this.vaults = [0, 1, 2].map((i) => {
      const endpoints = [...urls.slice(i), ...urls.slice(0, i)].join(', ')
      const ledger = `{ kind: etcd, endpoints: [${endpoints}] }`
      const node = `n${i + 1}`
      return new Vault(undefined, { keyring, node, ledger, more: OWNERS, fields: ['patient.ssn'] })
    })
  }

  static async start(): Promise<Fleet> {
    const etcds = await Etcd.three()
    const grpc = await Promise.all(etcds.map(({ url }) => GrpcRelay.before(url)))
    const tcp = await Promise.all(grpc.map(({ url }) => Relay.before(url)))
    const fleet = new Fleet({ etcds, grpc, tcp })
    for (const vault of fleet.vaults) await vault.start()
    await fleet.#prepare()
    return fleet
  }

  async #prepare(): Promise<void> {
    const [vault] = this.vaults
    const known = Array.from({ length: 50 }, (_, i) => `known ${i}`)
    const { tokens: old } = await vault.tokenize(Array.from({ length: ROUNDS }, (_, i) => `old ${i}`))
    assert.equal((await vault.call('/rotate-epoch', { to: 2 })).status, 200)
    this.prepared = { known: (await vault.tokenize(known)).tokens, old }
    const secrets = ['hot', ...Array.from({ length: 8 }, (_, i) => `own-${i}`)]
    const created = await vault.call('/secrets', { secrets: secrets.map((name) => ({ name, value: 'x' })) })
    assert.equal(created.status, 201)
    for (const each of this.vaults) {
      await each.digest()
      await each.detokenize(this.prepared.known)
    }
  }

  ask(vault: Vault, call: Call): Promise<TimedAnswer> {
    return timedCall(vault.url, this.agent, call)
  }

  /** The next call, of its kind by turns. */
  call(): Call {
    const id = this.#next++
    const calls = callsOf(id, this.prepared)
    assert.equal(calls.length, KINDS)
    const call = calls[id % KINDS]
    return { ...call, owner: call.what === 'rotate' ? owner(id) : 'a' }
  }

  async ready(): Promise<void> {
    for (const vault of this.vaults)
      await until('ready again', async () => (await vault.call('/ready')).status === 200, READY_MS)
  }

  /** Of an answer `not-applied` nothing may be in the ledger. */
  async judge(refused: readonly Call[]): Promise<void> {
    await this.ready()
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    const ledger = new EtcdLedger(this.etcds.map(({ url }) => url))
    const traces = await tracesOf(ledger).finally(() => ledger.close())
    for (const { what, path, left, values = [], tokens = [] } of refused) {
      assert.ok(!left?.(traces), `${what} ${path} was not applied, and has left something`)
      // A token is a function of its value: issued now, it tells what the ledger had before.
      const issued: string[] = []
      if (values.length > 0) issued.push(...(await this.vaults[0].tokenize(values)).tokens)
      if (tokens.length > 0)
        issued.push(...((await this.vaults[0].call('/retokenize', { tokens })).json.tokens as string[])) // the contract's answer
      for (const token of issued) assert.ok(!traces.bodies.has(bodyOf(token)), `${what}: a mapping is there`)
    }
  }

  async remove(): Promise<void> {
    this.agent.destroy()
    for (const vault of this.vaults) await vault.remove()
    for (const relay of [...this.tcp, ...this.grpc]) relay.close()
    for (const etcd of this.etcds) await etcd.remove()
  }
}

function bodyOf(token: string): string {
  const [body, text] = [new Uint8Array(16), Buffer.from(token)]
  assert.equal(readTokenText(text, 0, text.length, body, new Uint8Array(4), 0), 2)
  return Buffer.from(body).toString('hex')
}

type Fault = {
  readonly begin: (fleet: Fleet) => Promise<void> | void
  readonly end: (fleet: Fleet) => Promise<void> | void
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'two members are killed': {
    begin: async ({ etcds: [, ...two] }) => {
      for (const etcd of two) await etcd.kill()
    },
    end: async ({ etcds: [, ...two] }) => {
      await Promise.all(two.map((etcd) => etcd.start()))
    },
  },
  'two members stand still': {
    begin: ({ etcds: [, ...two] }) => {
      for (const etcd of two) etcd.signal('SIGSTOP')
    },
    end: ({ etcds: [, ...two] }) => {
      for (const etcd of two) etcd.signal('SIGCONT')
    },
  },
  'the way to all members swallows': {
    begin: ({ tcp }) => {
      for (const relay of tcp) relay.silent = true
    },
    end: ({ tcp }) => {
      for (const relay of tcp) relay.silent = false
    },
  },
  'answers are 3 s late': {
    begin: ({ tcp }) => {
      for (const relay of tcp) relay.delay = 3000
    },
    end: ({ tcp }) => {
      for (const relay of tcp) relay.delay = 0
    },
  },
  'reads are answered, commits are not': {
    begin: ({ grpc }) => {
      for (const relay of grpc) relay.commits = 'lost and unanswered'
    },
    end: ({ grpc }) => {
      for (const relay of grpc) relay.commits = 'answered'
    },
  },
}

const isNoQuorum = ({ status, json }: TimedAnswer): boolean =>
  status === 503 && json.type === '/problems/no-quorum'

describe('without quorum', () => {
  let fleet: Fleet
  before(async () => {
    fleet = await Fleet.start()
  })
  after(() => fleet.remove())

  for (const [name, { begin, end }] of Object.entries(FAULTS)) {
    test(`${name}: each call is answered in its time, and not-applied is true`, async (t) => {
      const refused: Call[] = []
      const counts = new Map<string, number>()
      let latest = { ms: 0, what: '' }
      let left = CALLS
      await begin(fleet)
      const client = async (vault: Vault): Promise<void> => {
        while (left-- > 0) {
          const call = fleet.call()
          const answer = await fleet.ask(vault, call)
          if (answer.ms > latest.ms) latest = { ms: answer.ms, what: call.what }
          const { status, json } = answer
          const outcome = isNoQuorum(answer) ? String(json.outcome) : ''
          counts.set(`${status} ${outcome}`, (counts.get(`${status} ${outcome}`) ?? 0) + 1)
          assert.ok(status < 500 || isNoQuorum(answer), `${call.what}: ${JSON.stringify(json)}`)
          if (outcome === 'not-applied') refused.push(call)
          else if (isNoQuorum(answer)) assert.equal(outcome, 'unknown')
        }
      }
      try {
        await Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(fleet.vaults[i % 3])))
      } finally {
        await end(fleet)
      }
      t.diagnostic(`latest: ${latest.what} after ${Math.round(latest.ms)} ms`)
      t.diagnostic(JSON.stringify(Object.fromEntries(counts)))
      assert.ok(latest.ms <= ANSWER_MS, `${latest.what} was answered after ${Math.round(latest.ms)} ms`)
      assert.ok(refused.length > 0, 'some calls were not applied')
      await fleet.judge(refused)
    })
  }

  test('a node that stood still sends nothing that is overdue', async () => {
    const [vault] = fleet.vaults
    const [, ...two] = fleet.etcds
    const calls = Array.from({ length: 20 }, (_, i): Call => {
      const values = [`overdue ${i}`]
      return { what: 'tokenize', owner: 'a', ...post('/tokenize', { values }), values }
    })
    for (const etcd of two) etcd.signal('SIGSTOP')
    const asked = calls.map((call) => fleet.ask(vault, call))
    try {
      await until('the node has the calls', () => vault.call('/health'))
      sendSignal(vault.pid, 'SIGSTOP')
      for (const etcd of two) etcd.signal('SIGCONT')
      await new Promise((resolve) => setTimeout(resolve, STILL_MS))
    } finally {
      sendSignal(vault.pid, 'SIGCONT')
    }
    const answers = await Promise.all(asked)
    const refused = calls.filter((_, i) => answers[i].json.outcome === 'not-applied')
    assert.ok(refused.length > 0, 'commits that waited were given up')
    await fleet.judge(refused)
  })
})
