// The data of the page, and the view: the time that is shown, and the filters.

export const KINDS = ['node', 'ledger', 'fault', 'epoch', 'token', 'secret', 'replica', 'refused', 'other']
export const KIND_WORDS = {
  node: 'nodes',
  ledger: 'ledger',
  fault: 'faults',
  epoch: 'epochs',
  token: 'tokens',
  secret: 'secrets',
  replica: 'replicas',
  refused: 'refused',
  other: 'other',
}

/** The shortest time that can be shown, in milliseconds. */
const SHORTEST_MS = 5

/** Columns of the events, and all else of the data block. */
export function readData(text) {
  const data = JSON.parse(text)
  const { events, names } = data
  const count = events.length
  const columns = {
    count,
    at: new Float64Array(count),
    node: new Uint32Array(count),
    name: new Uint32Array(count),
    kind: new Uint8Array(count),
    owner: new Int32Array(count),
  }
  const kinds = names.map(({ kind }) => KINDS.indexOf(kind))
  for (let i = 0; i < count; i++) {
    const event = events[i]
    columns.at[i] = event[0]
    columns.node[i] = event[1]
    columns.name[i] = event[2]
    columns.kind[i] = kinds[event[2]]
    columns.owner[i] = event[5]
  }
  return { ...data, columns }
}

/** The parts of an event, as text. */
export function eventOf(data, i) {
  const [at, node, name, seq, revision, , details] = data.events[i]
  return {
    time: new Date(at).toISOString(),
    node: data.nodeNames[node],
    name: data.names[name].name,
    kind: data.names[name].kind,
    seq,
    revision: revision === 0 ? '' : String(revision),
    details,
  }
}

/** Time, filters and selection. `matching` has the numbers of the events that pass the filters. */
export class View {
  hiddenKinds = new Set()
  hiddenNodes = new Set()
  owner = -1
  text = ''
  /** The number of an event; -1: none. */
  selected = -1
  /** The instant that is marked. */
  mark
  matching = new Uint32Array(0)
  #data
  #changed

  constructor(data, changed) {
    this.#data = data
    this.#changed = changed
    const margin = Math.max((data.to - data.from) * 0.02, SHORTEST_MS)
    this.least = data.from - margin
    this.most = data.to + margin
    this.from = this.least
    this.to = this.most
    this.filter()
  }

  /** Finds the matching events again, after a filter was changed. */
  filter() {
    const { columns, events, names, nodeNames } = this.#data
    const { owner, text } = this
    const matching = new Uint32Array(columns.count)
    const words = text.toLowerCase().split(/\s+/).filter(Boolean)
    const isHidden = KINDS.map((kind) => this.hiddenKinds.has(kind))
    let found = 0
    for (let i = 0; i < columns.count; i++) {
      if (isHidden[columns.kind[i]] || this.hiddenNodes.has(columns.node[i])) continue
      if (owner >= 0 && columns.owner[i] !== owner) continue
      if (words.length > 0) {
        const whole =
          `${names[columns.name[i]].name} ${nodeNames[columns.node[i]]} ${events[i][6]}`.toLowerCase()
        if (!words.every((word) => whole.includes(word))) continue
      }
      matching[found++] = i
    }
    this.matching = matching.subarray(0, found)
    this.#changed()
  }

  /** Numbers of the matching events in the time that is shown. */
  shown() {
    const { at } = this.#data.columns
    return this.matching.filter((i) => at[i] >= this.from && at[i] <= this.to)
  }

  /** Shows a time, as far as there is any. */
  show(from, to) {
    const length = Math.min(Math.max(to - from, SHORTEST_MS), this.most - this.least)
    const middle = (from + to) / 2
    this.from = Math.min(Math.max(middle - length / 2, this.least), this.most - length)
    this.to = this.from + length
    this.#changed()
  }

  /** `factor` below 1 shows less time; the instant `around` stays where it is. */
  zoom(factor, around = (this.from + this.to) / 2) {
    this.show(around - (around - this.from) * factor, around + (this.to - around) * factor)
  }

  /** By a part of the time that is shown. */
  pan(part) {
    const by = (this.to - this.from) * part
    this.show(this.from + by, this.to + by)
  }

  /** Selects an event, and marks an instant, that of the event if none is given. */
  select(i, at = this.#data.columns.at[i]) {
    this.selected = i
    this.mark = at
    if (at < this.from || at > this.to) {
      const half = (this.to - this.from) / 2
      this.show(at - half, at + half)
    } else this.#changed()
  }

  reset() {
    this.hiddenKinds.clear()
    this.hiddenNodes.clear()
    this.owner = -1
    this.text = ''
    this.selected = -1
    this.mark = undefined
    this.filter()
  }
}
