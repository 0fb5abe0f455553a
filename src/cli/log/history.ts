// The history of each node by the events of the logs: runs, leads, losses of the ledger. Instants are
// milliseconds since 1970, by the clock of the node that wrote the event.
import type { LogEvent } from './line.ts'

/** `to` is undefined while the ledger has not recovered before the end of the run. */
type Loss = { readonly from: number; to: number | undefined; readonly reason: string }
type CatchUp = {
  /** The end of the catch-up. */
  readonly at: number
  readonly ms: number
  /** Revisions. */
  readonly from: number
  readonly to: number
}

/**
 * How a run ended: `stopped` by a stop; `gone` without a stop, since the node started again later; `silent`:
 * nothing was written any more while other nodes went on; `open`: nothing is known.
 */
type RunEnd = 'stopped' | 'gone' | 'silent' | 'open'

export type Run = {
  /** The number of the first event. */
  readonly seq: number
  /** The start; the first event where the start is not in the log. */
  readonly from: number
  readonly started: boolean
  ready: number | undefined
  /** The last event. */
  to: number
  stopping: number | undefined
  end: RunEnd
  readonly losses: Loss[]
  readonly catchUps: CatchUp[]
  readonly rebuilt: number[]
}

export type NodeHistory = {
  readonly node: string
  readonly runs: Run[]
  /** The greatest revision in the events of the node. */
  revision: number
}

export type Lead = { readonly node: string; readonly from: number; to: number }
export type OpenedEpoch = {
  readonly owner: string
  readonly epoch: number
  readonly at: number
  readonly node: string
  /** Whether a caller has asked for the rotation; else the epoch was seen in the ledger. */
  readonly rotated: boolean
}

type Report = { readonly at: number; readonly from: string | undefined; readonly to: string }

/** Reports of one change of the leader come from every node, up to a second late. */
const SAME_CHANGE_MS = 3000
/** A node without events for so long, while others apply revisions, does not run. */
const SILENT_MS = 2000

export class History {
  readonly #nodes = new Map<string, NodeHistory>()
  readonly #reports: Report[] = []
  readonly #epochs = new Map<string, OpenedEpoch>()
  /** The greatest revision in the events of all nodes, and the time of its first event. */
  #newest = { revision: 0, at: Number.NEGATIVE_INFINITY }

  /** Takes the events of a node in any order, but for those of one run. */
  add(event: LogEvent): void {
    const { at, revision = 0 } = event
    const history = this.#node(event.node)
    history.revision = Math.max(history.revision, revision)
    if (revision > this.#newest.revision) this.#newest = { revision, at }
    const run = runOf(history.runs, event)
    run.to = Math.max(run.to, at)
    change(run, event)
    this.#ofCluster(event)
  }

  /** Nodes by name, with the ends of their runs. */
  nodes(): NodeHistory[] {
    const all = [...this.#nodes.values()].toSorted((a, b) => (a.node < b.node ? -1 : 1))
    for (const { runs, revision } of all) {
      for (const [i, run] of runs.entries()) run.end = this.#endOf(run, i === runs.length - 1, revision)
    }
    return all
  }

  /** Who led when, by the first report of each change; a lead ends with the run of its node. */
  leads(): Lead[] {
    const leads: Lead[] = []
    const changes = new Map<string, number>()
    for (const { at, from, to } of this.#reports.toSorted((a, b) => a.at - b.at)) {
      const change = `${from ?? ''} ${to}`
      const isRepeated = at - (changes.get(change) ?? Number.NEGATIVE_INFINITY) < SAME_CHANGE_MS
      const last = leads.at(-1)
      if (last?.node === to || isRepeated) continue
      changes.set(change, at)
      if (last) last.to = Math.min(last.to, at)
      leads.push({ node: to, from: at, to: this.#endOfRun(to, at) })
    }
    return leads
  }

  /** Epochs by the time at which they were opened, or seen first. */
  epochs(): OpenedEpoch[] {
    return [...this.#epochs.values()].toSorted((a, b) => a.at - b.at)
  }

  #node(name: string): NodeHistory {
    const known = this.#nodes.get(name)
    if (known) return known
    const node: NodeHistory = { node: name, runs: [], revision: 0 }
    this.#nodes.set(name, node)
    return node
  }

  #ofCluster({ at, node, event, fields: { owner, epoch, from, to } }: LogEvent): void {
    if (event === 'ledger.leader' && typeof to === 'string')
      this.#reports.push({ at, from: typeof from === 'string' ? from : undefined, to })
    const rotated = event === 'epoch.rotated'
    if (!rotated && event !== 'epoch.observed') return
    if (typeof owner !== 'string' || typeof epoch !== 'number') return
    const key = `${epoch} ${owner}`
    const known = this.#epochs.get(key)
    if (known?.rotated || (known && !rotated && known.at <= at)) return
    this.#epochs.set(key, { owner, epoch, at, node, rotated })
  }

  #endOf(run: Run, isLast: boolean, revision: number): RunEnd {
    if (run.stopping !== undefined) return 'stopped'
    if (!isLast) return 'gone'
    const { revision: newest, at } = this.#newest
    return newest > revision && at - run.to > SILENT_MS ? 'silent' : 'open'
  }

  /** Infinity while the run goes on as far as the logs tell. */
  #endOfRun(node: string, at: number): number {
    const runs = this.#nodes.get(node)?.runs ?? []
    const i = runs.findLastIndex(({ from }) => from <= at)
    const run = runs[i]
    if (run === undefined) return Number.POSITIVE_INFINITY
    const end = this.#endOf(run, i === runs.length - 1, this.#nodes.get(node)?.revision ?? 0)
    return end === 'open' ? Number.POSITIVE_INFINITY : run.to
  }
}

/** The run of an event, by the numbers of events, which no restart sets back. */
function runOf(runs: Run[], { at, seq, event }: LogEvent): Run {
  const i = runs.findLastIndex((run) => run.seq <= seq)
  const isStart = event === 'node.started'
  if (i >= 0 && !isStart) return runs[i]
  const run: Run = {
    seq,
    from: at,
    started: isStart,
    ready: isStart ? undefined : at,
    to: at,
    stopping: undefined,
    end: 'open',
    losses: [],
    catchUps: [],
    rebuilt: [],
  }
  runs.splice(i + 1, 0, run)
  return run
}

function change(run: Run, { at, event, fields }: LogEvent): void {
  const last = run.losses.at(-1)
  switch (event) {
    case 'node.ready':
      run.ready = at
      break
    case 'node.stopped':
      run.stopping = at
      break
    case 'ledger.lost': {
      const reason = typeof fields.reason === 'string' ? fields.reason : ''
      // Without a checkpoint nothing is lost, and no `ledger.recovered` follows.
      if (reason.startsWith('no checkpoint: ')) break
      if (last === undefined || last.to !== undefined) run.losses.push({ from: at, to: undefined, reason })
      break
    }
    case 'ledger.recovered':
      if (last) last.to ??= at
      break
    case 'replica.caught-up':
      run.catchUps.push({
        at,
        ms: numberOf(fields.ms),
        from: numberOf(fields.from),
        to: numberOf(fields.to),
      })
      break
    case 'replica.rebuilt':
      run.rebuilt.push(at)
      break
  }
}

/** A log may be from elsewhere: a member that is no number counts as 0. */
function numberOf(member: unknown): number {
  return typeof member === 'number' && Number.isFinite(member) ? member : 0
}
