// coffer demo failure: nodes are killed, until no majority is left, and come back. Nothing is lost.
import { isDeepStrictEqual } from 'node:util'
import { assert } from '../../assert.ts'
import { print, table } from '../terminal/terminal.ts'
import type { Scenario } from './scenario.ts'
import type { Stage } from './stage.ts'
import type { StageNode } from './stage-node.ts'
import { check, claim, nowhereIn } from './story.ts'
import {
  type Answered,
  type Asked,
  ask,
  eventually,
  leaderOf,
  seconds,
  showEqual,
  startThree,
} from './three-nodes.ts'
import { printEvent } from './timeline.ts'

const CLINIC = 'clinic'
/** Numbers of nobody. */
const VALUES = ['912-40-1187', '934-77-0052', '951-08-6620']
const DURING = ['977-31-4409', '968-22-7315']
const LATER = '983-64-2071'
const SECRET = 'app/prod/DB_PASSWORD'
const PASSWORDS = ['p@ss-w0rd-1', 'p@ss-w0rd-2', 'p@ss-w0rd-3']
/** The contract's 5 s for a refusal, and a second for a busy machine. */
const REFUSED_MS = 5_000 + 1_000

export const failure: Scenario = {
  about: 'three nodes: one is killed, a second is killed, both come back and catch up',
  nodes: 3,
  owners: [CLINIC],
  play,
  next: `  coffer init ./vault --nodes 3 --owner ${CLINIC}
  coffer cluster start ./vault
  kill -9 $(cat ./vault/run/n2.pid)
  coffer cluster status ./vault`,
}

async function play(stage: Stage): Promise<void> {
  print(`Three nodes in ${stage.dir}, each with a member of an etcd cluster.`)
  await stage.chapter('Three nodes, and what they store')
  const tokens = await store(stage)
  await stage.chapter('The node that leads is killed: the two others go on')
  const more = await loseOne(stage, tokens)
  await stage.chapter(
    'A second node is killed: what is certain is answered, all else is refused, and nothing is wrong',
  )
  const last = await loseTwo(stage, tokens)
  await stage.chapter('A node comes back: there is a majority again')
  const later = await regainOne(stage, last)
  await stage.chapter('The other node comes back, and catches up')
  await regainTwo(stage, [...tokens, ...more, later])
  await stage.chapter('A member of etcd alone is killed: its node goes on, and starts the member again')
  await loseMember(stage, tokens)
  await stage.chapter('No value is on any disk in clear')
  nowhereIn(stage.vaultDir, [...VALUES, ...DURING, LATER, ...PASSWORDS])
}

/** A request, its words in the demo, and the expected status. */
type Sent = Pick<Asked, 'method' | 'path' | 'body' | 'headers'> & {
  readonly what: string
  readonly status: number
}

/** Sends all requests to all nodes at once. Shows the answers, and returns the answers by node. */
async function send(stage: Stage, nodes: readonly StageNode[], sent: readonly Sent[]): Promise<Answered[][]> {
  const key = stage.key(CLINIC)
  const answers = await Promise.all(
    nodes.map((node) => Promise.all(sent.map((request) => ask({ ...request, node, key })))),
  )
  const rows = sent.map(({ method, path, what }, i) => [
    `${method} ${path}`,
    what,
    ...answers.map((ofNode) => `${told(ofNode[i])}`),
  ])
  print(table([['request', '', ...nodes.map(({ name }) => name)], ...rows], '  '))
  const right = answers.every((ofNode) => ofNode.every(({ status }, i) => status === sent[i].status))
  check(right, `the statuses are ${sent.map(({ status }) => status).join(', ')}`)
  return answers
}

/** Status, problem and time of an answer. */
function told({ status, json, ms }: Answered): string {
  const problem = status < 400 ? '' : ` ${String(json.type).replace('/problems/', '')}`
  const outcome = 'outcome' in json ? `, ${json.outcome}` : ''
  return `${status}${problem}${outcome} (${ms < 1000 ? `${Math.round(ms)} ms` : seconds(ms)})`
}

const detokenize = (tokens: readonly string[]): Sent => ({
  method: 'POST',
  path: '/detokenize',
  body: { tokens },
  what: 'known tokens',
  status: 200,
})

async function store(stage: Stage): Promise<string[]> {
  await startThree(stage, CLINIC)
  const clinic = stage.client(CLINIC)
  const { tokens } = await clinic.tokenize(VALUES)
  await clinic.createSecret(SECRET, PASSWORDS[0])
  await clinic.updateSecret(SECRET, PASSWORDS[1])
  print('')
  print(table([['value', 'token'], ...VALUES.map((value, i) => [value, String(tokens[i])])], '  '))
  print(`\nAnd the secret ${SECRET}, with two versions.`)
  await resolvedEverywhere(stage, tokens.map(String), VALUES)
  return tokens.map(String)
}

async function resolvedEverywhere(
  stage: Stage,
  tokens: readonly string[],
  expected: readonly string[],
): Promise<void> {
  for (const node of stage.nodes.filter(({ runs }) => runs)) {
    const { values } = await stage.client(CLINIC, [node]).detokenize(tokens)
    claim(isDeepStrictEqual(values, expected), `${node.name} resolves all ${tokens.length} tokens`)
  }
}

/** Returns the tokens of DURING. */
async function loseOne(stage: Stage, tokens: readonly string[]): Promise<string[]> {
  const victim = await leaderOf(stage, CLINIC)
  print(`  kill -9 ${victim.pids.node}     # ${victim.name}, whose member leads`)
  const began = performance.now()
  await victim.kill()
  const leader = await leaderOf(stage, CLINIC)
  print(`  ${leader.name} leads after ${seconds(performance.now() - began)}\n`)
  const others = stage.nodes.filter(({ runs }) => runs)
  const answers = await send(stage, others, [
    detokenize(tokens),
    { method: 'POST', path: '/tokenize', body: { values: DURING }, what: 'new values', status: 200 },
    { method: 'GET', path: `/secrets/${SECRET}`, what: 'latest version', status: 200 },
  ])
  const [[, first], [, second]] = answers
  claim(
    answers.every(([known]) => isDeepStrictEqual(known.json.values, VALUES)),
    'both resolve the known tokens',
  )
  claim(
    isDeepStrictEqual(first.json.tokens, second.json.tokens),
    'both give the same new tokens for the same new values',
  )
  const { tokens: issued } = await stage.client(CLINIC, others).tokenize(DURING)
  check(isDeepStrictEqual(issued, first.json.tokens), 'the new tokens stay')
  return issued.map(String)
}

/** Returns the last running node. */
async function loseTwo(stage: Stage, tokens: readonly string[]): Promise<StageNode> {
  const [victim, last] = stage.nodes.filter(({ runs }) => runs)
  print(`  kill -9 ${victim.pids.node}     # ${victim.name}; ${last.name} is left\n`)
  await victim.kill()
  const key = stage.key(CLINIC)
  await eventually(`${last.name} to see that there is no majority`, async () => {
    const { status } = await ask({ node: last, key, method: 'GET', path: '/ready' })
    return status === 503 ? true : undefined
  })
  const [answers] = await send(
    stage,
    [last],
    [
      detokenize(tokens),
      {
        method: 'POST',
        path: '/detokenize',
        body: { token: forged(tokens[0]) },
        what: 'a forged token',
        status: 404,
      },
      { method: 'GET', path: `/secrets/${SECRET}?version=1`, what: '', status: 200 },
      { method: 'GET', path: '/ready?for=reads', what: '', status: 200 },
      { method: 'GET', path: '/ready', what: '', status: 503 },
      { method: 'GET', path: `/secrets/${SECRET}`, what: 'latest version', status: 503 },
      { method: 'POST', path: '/tokenize', body: { values: [LATER] }, what: 'a new value', status: 503 },
      { method: 'POST', path: '/tokenize', body: { values: VALUES }, what: 'known values', status: 503 },
      { ...THIRD_VERSION, status: 503 },
      { method: 'POST', path: '/rotate-epoch', body: { to: 2 }, what: '', status: 503 },
    ],
  )
  const [known, , version] = answers
  claim(isDeepStrictEqual(known.json.values, VALUES), 'known tokens resolve to their values')
  claim(version.json.value === PASSWORDS[0], 'a version asked for by number is read')
  const refused = answers.slice(5)
  claim(
    refused.every(({ json }) => json.type === '/problems/no-quorum'),
    'all that needs a majority is refused with no-quorum, known values too',
  )
  claim(
    answers.every(({ ms }) => ms < REFUSED_MS),
    'every answer comes within the 5 s that the contract allows',
  )
  await loggedBy(stage, last, 'ledger.lost')
  return last
}

/** Shows the line of an event log, once the line is there. */
async function loggedBy(stage: Stage, node: StageNode, event: string): Promise<void> {
  await eventually(`${event} in the log of ${node.name}`, async () =>
    printEvent(stage.vaultDir, node.name, event) ? true : undefined,
  )
}

/** Under an Idempotency-Key the same request can be sent again, with a single effect. */
const THIRD_VERSION: Sent = {
  method: 'PUT',
  path: `/secrets/${SECRET}`,
  body: { value: PASSWORDS[2] },
  headers: { 'idempotency-key': 'deploy-42' },
  what: 'with an Idempotency-Key',
  status: 200,
}

/** The token with another last character: the check of a token does not fit. */
function forged(token: string): string {
  return token.slice(0, -1) + (token.endsWith('0') ? '1' : '0')
}

/** Returns the token of LATER. */
async function regainOne(stage: Stage, last: StageNode): Promise<string> {
  const back = stage.nodes.filter(({ runs }) => !runs).at(-1)
  assert(back, 'two nodes are down')
  const began = performance.now()
  await back.start()
  const took = seconds(performance.now() - began)
  print(`  ${back.name} is back and ready after ${took}. Refused requests are sent again:\n`)
  await eventually(`${last.name} to be ready`, async () => {
    const { status } = await ask({ node: last, key: stage.key(CLINIC), method: 'GET', path: '/ready' })
    return status === 200 ? true : undefined
  })
  const [[later, written]] = await send(
    stage,
    [last],
    [
      { method: 'POST', path: '/tokenize', body: { values: [LATER] }, what: 'the new value', status: 200 },
      THIRD_VERSION,
    ],
  )
  const { versions } = await stage.client(CLINIC, [back]).secretHistory(SECRET)
  claim(
    written.json.version === 3 && versions.length === 3,
    'the secret has one third version, although its update was sent twice',
  )
  const { tokens } = later.json
  check(Array.isArray(tokens) && tokens.length === 1, 'one value has one token')
  return String(tokens[0])
}

async function regainTwo(stage: Stage, tokens: readonly string[]): Promise<void> {
  const back = stage.nodes.find(({ runs }) => !runs)
  assert(back, 'one node is down')
  const began = performance.now()
  await back.start()
  print(`  ${back.name} is back and ready after ${seconds(performance.now() - began)}.`)
  await loggedBy(stage, back, 'replica.caught-up')
  print('')
  await showEqual(stage, CLINIC)
  await resolvedEverywhere(stage, tokens, [...VALUES, ...DURING, LATER])
  print('\nEvery token that was ever given out is there, on every node.')
}

async function loseMember(stage: Stage, tokens: readonly string[]): Promise<void> {
  const [node] = stage.nodes
  const { member } = node.pids
  if (member === undefined) return print('  Left out: this system does not tell the process of a member.')
  print(`  kill -9 ${member}     # the member of ${node.name}\n`)
  process.kill(member, 'SIGKILL')
  await send(
    stage,
    [node],
    [
      detokenize(tokens),
      { method: 'POST', path: '/tokenize', body: { values: VALUES }, what: 'known values', status: 200 },
    ],
  )
  const again = await eventually('another member', async () => {
    const { member: now } = node.pids
    return now === member ? undefined : now
  })
  claim(again !== member, `${node.name} went on, and has started its member again, as process ${again}`)
  await showEqual(stage, CLINIC)
}
