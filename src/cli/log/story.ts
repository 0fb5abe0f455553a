// The history of the nodes in words: a headline, the important moments, and how much was done between two of
// the moments.
import { counted } from '../terminal/terminal.ts'
import type { Activity } from './activity.ts'
import type { Lead, NodeHistory, OpenedEpoch, Run } from './history.ts'

type MomentKind = 'node' | 'fault' | 'good' | 'ledger' | 'epoch' | 'activity' | 'refused'

type Moment = {
  /** Milliseconds since 1970. */
  readonly at: number
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
/** Facts among which equal facts are looked for. */
const FEW = 30
/** Nobody reads a longer story. */
const MOST_MOMENTS = 400

/** `text` is for a single node; `all` for several nodes that are told together. */
type Fact = {
  readonly at: number
  readonly kind: MomentKind
  readonly node: string
  readonly text: string
  readonly all?: string
  /** The end of a run, at its last event. */
  readonly isEnd?: true
}

/** A fact of several nodes. */
type Told = Omit<Fact, 'node'> & { readonly nodes: readonly string[] }

export function momentsOf({ nodes, leads, epochs, activity, from, to }: Facts): Moment[] {
  const facts = [...nodes.flatMap(factsOf), ...leads.map(leadFact), ...epochs.flatMap(epochFact)]
  const told = together(facts.filter(({ at }) => at >= from && at <= to).toSorted((a, b) => a.at - b.at))
  const moments: Moment[] = []
  for (const [i, fact] of [undefined, ...told].entries()) {
    if (fact) moments.push(momentOf(fact))
    const [begin, end] = [fact ? edgeOf(fact) : from, told[i] ? edgeOf(told[i]) : to + 1]
    for (const { at, text, nodes: served, refused } of activity.between(begin, end))
      moments.push({ at, kind: refused ? 'refused' : 'activity', nodes: served, text })
  }
  return shortened(moments)
}

const momentOf = ({ at, kind, nodes, text }: Told): Moment => ({ at, kind, nodes, text })

/** The last event of a run may be a request: the request belongs before the end. */
const edgeOf = ({ at, isEnd }: Told): number => (isEnd ? at + 1 : at)

/** Leaves out what was done where there are too many moments; then moments in the middle. */
function shortened(moments: readonly Moment[]): Moment[] {
  if (moments.length <= MOST_MOMENTS) return [...moments]
  const important = moments.filter(({ kind }) => kind !== 'activity')
  if (important.length <= MOST_MOMENTS) return important
  const half = MOST_MOMENTS / 2
  const [first, last] = [important.slice(0, half), important.slice(-half)]
  const text = `… ${important.length - MOST_MOMENTS} more moments: choose a time with --since and --until`
  return [...first, { at: first[half - 1].at, kind: 'activity', nodes: [], text }, ...last]
}

/** A sentence about the whole: faults first, then changes. */
export function headlineOf({ nodes, leads, epochs, from, to }: Facts): string {
  const isShown = (at: number): boolean => at >= from && at <= to
  const faults = faultsOf(nodes, isShown)
  const changes = leads.slice(1).filter((lead) => isShown(lead.from)).length
  const rotations = epochs.filter(({ rotated }) => rotated).length
  const parts = [
    ...faults.slice(0, MOST_FAULTS),
    ...(faults.length > MOST_FAULTS ? [`${counted(faults.length - MOST_FAULTS, 'more fault')}`] : []),
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
    const text = `lost the ledger${why}`
    const lost: Fact = { at: from, kind: 'fault', node, text: `has ${text}`, all: `have ${text}` }
    if (to === undefined) return [lost]
    const again = `the ledger again, after ${duration(to - from)}`
    return [lost, { at: to, kind: 'good', node, text: `has ${again}`, all: `have ${again}` }]
  })
}

function endOf({ end, to, stopping = to }: Run, node: string): Fact[] {
  switch (end) {
    case 'stopped':
      return [{ at: stopping, kind: 'node', node, text: 'stops', all: 'stop' }]
    case 'gone':
      return [{ at: to, kind: 'fault', node, text: 'ends without a stop', isEnd: true }]
    case 'silent':
      return [{ at: to, kind: 'fault', node, text: 'writes its last event, while others go on', isEnd: true }]
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
  const text = rotated ? `rotates ${owner} to epoch ${epoch}` : `learns epoch ${epoch} of ${owner}`
  return [{ at, kind: 'epoch', node, text }]
}

/** Joins equal facts of several nodes. */
function together(facts: readonly Fact[]): Told[] {
  const told: Told[] = []
  for (const fact of facts) {
    const { at, node, all } = fact
    const last = told.slice(-FEW).findLast((each) => each.all === all && at - each.at < TOGETHER_MS)
    if (all !== undefined && last !== undefined && !last.nodes.includes(node))
      told[told.lastIndexOf(last)] = { ...last, text: all, nodes: [...last.nodes, node].toSorted() }
    else told.push({ ...fact, nodes: [node] })
  }
  return told
}

/** Nodes that were gone come before nodes that were without the ledger. */
function faultsOf(nodes: readonly NodeHistory[], isShown: (at: number) => boolean): string[] {
  const gone = nodes.flatMap(({ node, runs }) =>
    runs.flatMap(({ end, to }, i) => {
      if (!isShown(to) || end === 'stopped' || end === 'open') return []
      const back = runs[i + 1]?.ready
      if (back === undefined) return [`${node} was lost and did not come back`]
      return [`${node} was gone for ${duration(back - to)} and came back`]
    }),
  )
  return [...gone, ...outagesOf(nodes, isShown)]
}

/** Losses of the ledger; those of several nodes at a time are a single outage. */
function outagesOf(nodes: readonly NodeHistory[], isShown: (at: number) => boolean): string[] {
  const losses = nodes.flatMap(({ node, runs }) =>
    runs.flatMap((run) => run.losses.map(({ from, to = run.to }) => ({ node, from, to }))),
  )
  const outages: { names: Set<string>; from: number; to: number }[] = []
  for (const { node, from, to } of losses
    .filter((each) => isShown(each.from))
    .toSorted((a, b) => a.from - b.from)) {
    const last = outages.at(-1)
    if (last && from <= last.to) {
      last.names.add(node)
      last.to = Math.max(last.to, to)
    } else outages.push({ names: new Set([node]), from, to })
  }
  return outages.map(({ names, from, to }) => {
    const [last, ...others] = [...names].toSorted().reverse()
    const subject = others.length === 0 ? `${last} was` : `${others.reverse().join(', ')} and ${last} were`
    return `${subject} without the ledger for ${duration(to - from)}`
  })
}

function times(count: number): string {
  return count === 1 ? 'once' : count === 2 ? 'twice' : `${count} times`
}

/** `350 ms`, `5.6 s`, `2 min 14 s`, `3 h 12 min`, `2 d 3 h`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
  const hours = Math.round(minutes / 60)
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}
