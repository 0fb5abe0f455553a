import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Activity } from './activity.ts'
import { History, type Run } from './history.ts'
import { type LogEvent, parseLine } from './line.ts'
import { duration, type Facts, headlineOf, momentsOf } from './story.ts'

const START = Date.UTC(2030, 0, 1)

type Told = readonly [second: number, node: string, event: string, fields?: Record<string, unknown>]

/** Events in the order given, at seconds after the start. */
function eventsOf(told: readonly Told[]): LogEvent[] {
  return told.map(([second, node, event, fields], i) => {
    const time = new Date(START + second * 1000).toISOString()
    return (
      parseLine(Buffer.from(JSON.stringify({ time, node, seq: i + 1, event, ...fields }))) ?? assert.fail()
    )
  })
}

function factsOf(told: readonly Told[]): Facts {
  const history = new History()
  const activity = new Activity()
  const events = eventsOf(told)
  for (const event of events) {
    history.add(event)
    activity.add(event)
  }
  const times = events.map(({ at }) => at)
  const range = { from: Math.min(...times), to: Math.max(...times) }
  return { nodes: history.nodes(), leads: history.leads(), epochs: history.epochs(), activity, ...range }
}

const runsOf = (facts: Facts, node: string): Run[] =>
  facts.nodes.find((each) => each.node === node)?.runs ?? []

const started = (node: string, second: number): Told[] => [
  [second, node, 'node.started'],
  [second + 1, node, 'node.ready', { revision: 1 }],
]

test('the ends of runs: stopped, gone, silent, open', () => {
  const facts = factsOf([
    ...started('n1', 0),
    ...started('n2', 0),
    ...started('n3', 0),
    ...started('n4', 0),
    [5, 'n1', 'node.stopped'],
    [6, 'n1', 'tokens.resolved', { count: 1 }],
    [7, 'n2', 'tokens.issued', { count: 1 }],
    ...started('n2', 10),
    [20, 'n2', 'replica.applied', { revision: 9, from: 'n4' }],
    [21, 'n4', 'replica.applied', { revision: 9, from: 'n2' }],
  ])
  const ends = (node: string): unknown[] =>
    runsOf(facts, node).map(({ end, from, to }) => [end, (from - START) / 1000, (to - START) / 1000])
  assert.deepEqual(ends('n1'), [['stopped', 0, 6]])
  assert.deepEqual(ends('n2'), [
    ['gone', 0, 7],
    ['open', 10, 20],
  ])
  assert.deepEqual(ends('n3'), [['silent', 0, 1]])
  assert.deepEqual(ends('n4'), [['open', 0, 21]])
})

test('files of a node in any order: the runs are the same', () => {
  const events = eventsOf([
    ...started('n1', 0),
    [5, 'n1', 'tokens.issued', { count: 1 }],
    ...started('n1', 10),
    [15, 'n1', 'node.stopped'],
  ])
  const runs = (order: readonly LogEvent[]): unknown[] => {
    const history = new History()
    for (const event of order) history.add(event)
    return history.nodes().flatMap(({ runs: all }) => all)
  }
  const expected = runs(events)
  assert.equal(expected.length, 2)
  assert.deepEqual(runs([...events.slice(3), ...events.slice(0, 3)]), expected)
  assert.deepEqual(runs([events[0], events[1], ...events.slice(3), events[2]]), expected)
})

test('a node that has applied all that others have, and writes nothing since, is not silent', () => {
  const facts = factsOf([
    ...started('n1', 0),
    ...started('n2', 0),
    [2, 'n2', 'replica.applied', { revision: 5, from: 'n1' }],
    [2, 'n1', 'replica.applied', { revision: 5, from: 'n2' }],
    [60, 'n1', 'tokens.resolved', { count: 1 }],
  ])
  assert.equal(runsOf(facts, 'n2')[0].end, 'open')
})

test('a change of the leader is told once, by its first report; a lead ends with the run of its node', () => {
  const facts = factsOf([
    ...started('n1', 0),
    ...started('n2', 0),
    ...started('n3', 0),
    [1, 'n1', 'ledger.leader', { to: 'n3' }],
    [1.5, 'n2', 'ledger.leader', { to: 'n3' }],
    [9, 'n3', 'tokens.issued', { count: 1 }],
    [11, 'n1', 'ledger.leader', { from: 'n3', to: 'n2' }],
    [11.3, 'n1', 'ledger.leader', { from: 'n2', to: 'n1' }],
    // n2 is late with the first change: the lead of n1 goes on.
    [11.9, 'n2', 'ledger.leader', { from: 'n3', to: 'n2' }],
    [12.2, 'n2', 'ledger.leader', { from: 'n2', to: 'n1' }],
    ...started('n3', 20),
    [21, 'n3', 'ledger.leader', { to: 'n1' }],
  ])
  assert.deepEqual(
    facts.leads.map(({ node, from, to }) => [node, (from - START) / 1000, (to - START) / 1000]),
    [
      ['n3', 1, 9],
      ['n2', 11, 11.3],
      ['n1', 11.3, Number.POSITIVE_INFINITY],
    ],
  )
})

test('an epoch is told by its rotation, where the rotation is in the logs, else by its first observer', () => {
  const { epochs } = factsOf([
    ...started('n1', 0),
    [2, 'n2', 'epoch.observed', { owner: 'a', epoch: 2, revision: 5 }],
    [3, 'n1', 'epoch.rotated', { owner: 'a', epoch: 2, revision: 5 }],
    [4, 'n1', 'epoch.observed', { owner: 'b', epoch: 7, revision: 6 }],
    [3.5, 'n2', 'epoch.observed', { owner: 'b', epoch: 7, revision: 6 }],
  ])
  assert.deepEqual(
    epochs.map(({ owner, epoch, node, rotated }) => [owner, epoch, node, rotated]),
    [
      ['a', 2, 'n1', true],
      ['b', 7, 'n2', false],
    ],
  )
})

const STORY: readonly Told[] = [
  ...started('n1', 0),
  ...started('n2', 0.2),
  [1.3, 'n1', 'ledger.leader', { to: 'n2' }],
  [2, 'n2', 'tokens.issued', { owner: 'a', count: 1200 }],
  [3, 'n2', 'tokens.resolved', { owner: 'a', count: 1 }],
  [4, 'n1', 'ledger.lost', { reason: 'no checkpoint: the disk has no room' }], // no loss of the ledger
  [5, 'n1', 'ledger.lost', { reason: 'no leader' }],
  [6, 'n1', 'request.refused', { reason: 'no-quorum' }],
  [7, 'n1', 'requests.refused', { reason: 'unauthorized', count: 30, client: '10.0.0.1' }],
  [8, 'n1', 'ledger.recovered'],
  [9, 'n1', 'epoch.rotated', { owner: 'a', epoch: 2, revision: 12, from: 1, to: 2 }],
  ...started('n2', 20),
  [20.9, 'n2', 'replica.caught-up', { from: 3, to: 12, ms: 40 }],
  [30, 'n1', 'node.stopped'],
  [30.1, 'n2', 'node.stopped'],
]

test('the story: equal moments together, the work between moments counted, refusals by reason', () => {
  const moments = momentsOf(factsOf(STORY))
  assert.deepEqual(
    moments.map(({ at, kind, nodes, text }) => `${(at - START) / 1000} ${kind} ${nodes.join(',')} ${text}`),
    [
      '0 node n1,n2 start',
      '1 good n1,n2 are ready',
      '1.3 ledger n2 leads',
      '2 activity n2 2 requests: 1,200 tokens issued, 1 token resolved',
      '3 fault n2 ends without a stop',
      '5 fault n1 has lost the ledger: no leader',
      '6 refused n1 1 request refused: no-quorum',
      '7 refused n1 30 requests refused: unauthorized',
      '8 good n1 has the ledger again, after 3.0 s',
      '9 epoch n1 rotates a to epoch 2',
      '20 node n2 starts again, 17.0 s after its last event',
      '20.9 good n2 has caught up: revisions 3 to 12, in 40 ms',
      '21 good n2 is ready',
      '30 node n1,n2 stop',
    ],
  )
})

test('the headline: faults first, and only of the time that is shown', () => {
  const facts = factsOf(STORY)
  assert.equal(
    headlineOf(facts),
    'n2 was gone for 18.0 s and came back; n1 was without the ledger for 3.0 s; epochs were rotated once',
  )
  assert.equal(headlineOf({ ...facts, from: START + 10_000, epochs: [] }), '2 nodes, no faults')
})

test('nodes that lose the ledger together are told together; more faults than three are counted', () => {
  const losses = ['n1', 'n2', 'n3'].flatMap((node, i): Told[] => [
    [10 + i, node, 'ledger.lost', { reason: 'no leader' }],
    [20 + i, node, 'ledger.recovered'],
  ])
  const starts = ['n1', 'n2', 'n3'].flatMap((node) => started(node, 0))
  const headline = headlineOf(factsOf([...starts, ...losses]))
  assert.equal(headline, 'n1, n2 and n3 were without the ledger for 12.0 s')
  const again = [30, 40, 50].flatMap((second) => started('n1', second))
  assert.match(headlineOf(factsOf([...starts, ...losses, ...again])), /back; 1 more fault$/)
})

test('durations are told with as many digits as matter', () => {
  const told = [0, 350, 999, 5600, 59_940, 59_960, 134_000, 3_600_000, 11_520_000, 180_000_000].map(duration)
  assert.deepEqual(told, [
    '0 ms',
    '350 ms',
    '999 ms',
    '5.6 s',
    '59.9 s',
    '1 min 0 s',
    '2 min 14 s',
    '1 h 0 min',
    '3 h 12 min',
    '2 d 2 h',
  ])
})

test('a story of very many moments is cut in its middle, and says so', () => {
  const told = Array.from(
    { length: 900 },
    (_, i): Told => [i, 'n1', i % 2 ? 'ledger.recovered' : 'ledger.lost'],
  )
  const moments = momentsOf(factsOf([...started('n1', -5), ...told]))
  assert.equal(moments.length, 401)
  assert.match(moments[200].text, /502 more moments/)
})

test('the lines of a request with many names are one request; results given again are told', () => {
  const names = (count: number, part: number): Record<string, unknown> => ({ names: [], part, count })
  const facts = factsOf([
    [0, 'n1', 'secret.created', names(50, 1)],
    [0, 'n1', 'secret.created', names(20, 2)],
    [1, 'n1', 'request.replayed', { count: 2 }],
    [2, 'n1', 'secret.listed', { count: 1 }],
  ])
  assert.deepEqual(
    momentsOf(facts).map(({ text }) => text),
    ['3 requests: 70 secrets created, 1 name listed, 2 results given again'],
  )
})
