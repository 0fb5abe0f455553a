// The history of the nodes in words: a headline, the important moments, and how much was done between two of
// the moments.
import { counted } from '../terminal/terminal.ts'
import type { Activity } from './activity.ts'
import type { Lead, NodeHistory, OpenedEpoch, Run } from './history.ts'

type MomentKind = 'node' | 'fault' | 'good' | 'ledger' | 'epoch' | 'activity' | 'refused'

/** Instants in milliseconds since 1970. */
type Moment = {
  readonly at: number
  /** The end of the moment. */
  readonly to: number
  readonly kind: MomentKind
  readonly nodes: readonly string[]
  readonly text: string
}

export type Facts = {
  readonly nodes: readonly NodeHistory[]
  readonly leads: readonly Lead[]
  readonly epochs: readonly OpenedEpoch[]
  readonly activity: Activity
  /** The times of the first and of the last event. */
  readonly from: number
  readonly to: number
}

/** Nobody reads a longer headline. */
const MOST_FAULTS = 3
/** Equal moments of several nodes within so short a time are told together. */
const TOGETHER_MS = 5000

/** `text` is for a single node; `all` for several nodes that are told together. */
type Fact = {
  readonly at: number
  readonly kind: MomentKind
  readonly node: string
  readonly text: string
  readonly all?: string
}

export function momentsOf({ nodes, leads, epochs, activity, from, to }: Facts): Moment[] {
  const facts = [...nodes.flatMap(factsOf), ...leads.map(leadFact), ...epochs.flatMap(epochFact)]
  const told = together(facts.filter(({ at }) => at >= from && at <= to).toSorted((a, b) => a.at - b.at))
  const moments: Moment[] = []
  for (const [i, moment] of [undefined, ...told].entries()) {
    if (moment) moments.push(moment)
    const begin = moment?.at ?? from
    const end = told[i]?.at ?? to + 1
    for (const { text, nodes: served, refused } of activity.between(begin, end))
      moments.push({ at: begin, to: end, kind: refused ? 'refused' : 'activity', nodes: served, text })
  }
  return moments
}

/** A sentence about the whole: faults first, then changes. */
export function headlineOf({ nodes, leads, epochs, from, to }: Facts): string {
  const faults = nodes.flatMap((node) => faultsOf(node, from, to))
  const changes = leads.length - 1
  const rotations = epochs.filter(({ rotated }) => rotated).length
  const parts = [
    ...faults.slice(0, MOST_FAULTS),
    ...(faults.length > MOST_FAULTS ? [`${faults.length - MOST_FAULTS} more faults`] : []),
    ...(faults.length === 0 ? [`${counted(nodes.length, 'node')}, no faults`] : []),
    ...(changes > 0 ? [`the leader changed ${times(changes)}`] : []),
    ...(rotations > 0 ? [`epochs were rotated ${times(rotations)}`] : []),
  ]
  return parts.join('; ')
}

function factsOf(history: NodeHistory): Fact[] {
  return history.runs.flatMap((run, i) => [
    ...beginOf(run, { node: history.node, before: history.runs[i - 1] }),
    ...lossesOf(run, history.node),
    ...endOf(run, history.node),
  ])
}

function beginOf(
  run: Run,
  { node, before }: { readonly node: string; readonly before: Run | undefined },
): Fact[] {
  const facts: Fact[] = []
  if (run.started && before === undefined)
    facts.push({ at: run.from, kind: 'node', node, text: 'starts', all: 'start' })
  if (run.started && before !== undefined) {
    const text = `starts again, ${duration(run.from - before.to)} after its last event`
    facts.push({ at: run.from, kind: 'node', node, text })
  }
  for (const at of run.rebuilt) facts.push({ at, kind: 'fault', node, text: 'has built its replica again' })
  for (const { at, ms, from, to } of run.catchUps)
    if (to - from > 1) {
      const text = `has caught up: revisions ${from} to ${to}, in ${duration(ms)}`
      facts.push({ at, kind: 'good', node, text })
    }
  if (run.started && run.ready !== undefined)
    facts.push({ at: run.ready, kind: 'good', node, text: 'is ready', all: 'are ready' })
  return facts
}

function lossesOf({ losses }: Run, node: string): Fact[] {
  return losses.flatMap(({ from, to, reason }): Fact[] => {
    const why = reason === '' ? '' : `: ${reason}`
    const lost: Fact = { at: from, kind: 'fault', node, text: `has lost the ledger${why}` }
    if (to === undefined) return [lost]
    return [lost, { at: to, kind: 'good', node, text: `has the ledger again, after ${duration(to - from)}` }]
  })
}

function endOf({ end, to, stopping = to }: Run, node: string): Fact[] {
  switch (end) {
    case 'stopped':
      return [{ at: stopping, kind: 'node', node, text: 'stops', all: 'stop' }]
    case 'gone':
      return [{ at: to, kind: 'fault', node, text: 'ends without a stop' }]
    case 'silent':
      return [{ at: to, kind: 'fault', node, text: 'writes its last event, while others go on' }]
    case 'open':
      return []
  }
}

function leadFact({ node, from: at }: Lead, i: number, leads: readonly Lead[]): Fact {
  const before = leads[i - 1]
  return { at, kind: 'ledger', node, text: before ? `leads, after ${before.node}` : 'leads' }
}

/** The first epoch of an owner is opened by the first start, and is no event of note. */
function epochFact({ at, owner, epoch, node, rotated }: OpenedEpoch): Fact[] {
  if (!rotated && epoch === 1) return []
  const text = rotated
    ? `opens epoch ${epoch} of ${owner}, as a caller has asked`
    : `sees epoch ${epoch} of ${owner}`
  return [{ at, kind: 'epoch', node, text }]
}

/** Joins equal facts of several nodes. */
function together(facts: readonly Fact[]): Moment[] {
  const moments: (Moment & { readonly all: string | undefined })[] = []
  for (const { at, kind, node, text, all } of facts) {
    const last = moments.findLast((moment) => moment.all === all && at - moment.at < TOGETHER_MS)
    const isAlike = all !== undefined && last !== undefined && !last.nodes.includes(node)
    if (isAlike) {
      const joined = { ...last, to: at, text: all, nodes: [...last.nodes, node].toSorted() }
      moments[moments.indexOf(last)] = joined
    } else moments.push({ at, to: at, kind, nodes: [node], text, all })
  }
  return moments.map(({ all: _, ...moment }) => moment)
}

function faultsOf({ node, runs }: NodeHistory, from: number, to: number): string[] {
  return runs.flatMap((run, i) => {
    const losses = run.losses.filter((loss) => loss.from <= to && (loss.to ?? run.to) >= from)
    const lost = losses.map((loss) => {
      const length = (loss.to ?? run.to) - loss.from
      return `${node} was without the ledger for ${duration(length)}`
    })
    if (run.to < from || run.to > to) return lost
    const back = runs[i + 1]?.ready
    if (run.end === 'silent' || (run.end === 'gone' && back === undefined))
      return [...lost, `${node} was lost and did not come back`]
    if (run.end === 'gone' && back !== undefined)
      return [...lost, `${node} was gone for ${duration(back - run.to)} and came back`]
    return lost
  })
}

function times(count: number): string {
  return count === 1 ? 'once' : count === 2 ? 'twice' : `${count} times`
}

/** `350 ms`, `5.6 s`, `2 min 14 s`, `3 h 12 min`, `2 d 3 h`. */
function duration(ms: number): string {
  const seconds = Math.abs(ms) / 1000
  if (seconds < 1) return `${Math.round(ms)} ms`
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const minutes = Math.round(seconds / 60)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
  const hours = Math.round(minutes / 60)
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}
