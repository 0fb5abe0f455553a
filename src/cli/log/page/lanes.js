// Drawing: a lane for each node, with its runs, its lead, and counts of its events by time.
import { KINDS } from './view.js'

/** Heights and widths in CSS pixels. */
const AXIS = 58
const HEAD = 24
const BAR = 20
const GAP = 4
const BUCKET = 3
const PAPER = ['page', 'panel', 'ink', 'dim', 'line', 'ready', 'starting', 'lead', 'on-lead']
const FONT = '12px system-ui, sans-serif'

/** The rows of counts under the bar of a lane: kinds, height. */
const TRACKS = [
  { kinds: ['token', 'secret', 'epoch', 'other'], height: 26 },
  { kinds: ['refused'], height: 14 },
  { kinds: ['replica'], height: 16 },
]

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 15000, 30000]
  .concat([1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * 60_000))
  .concat([1, 2, 7, 14, 30, 90, 365].map((days) => days * 86_400_000))

export class Lanes {
  #data
  #view
  #canvas
  #context
  colours = {}
  #tracks
  #width = 0
  /** Where the names of the lanes end, from the left. */
  labelEnds = []

  constructor({ data, view, canvas }) {
    this.#data = data
    this.#view = view
    this.#canvas = canvas
    this.#context = canvas.getContext('2d')
    const kinds = new Set(data.names.map(({ kind }) => kind))
    // A row that is empty in all lanes is left out.
    this.#tracks = TRACKS.filter((track) => track.kinds.some((kind) => kinds.has(kind)))
    this.laneHeight = HEAD + BAR + 10 + this.#tracks.reduce((sum, { height }) => sum + height + GAP, 0)
    this.height = AXIS + data.nodes.length * this.laneHeight
  }

  /** Reads the colours of the style, again where light becomes dark. */
  readColours() {
    const style = getComputedStyle(document.documentElement)
    for (const name of [...PAPER, ...KINDS]) this.colours[name] = style.getPropertyValue(`--${name}`).trim()
  }

  topOf(lane) {
    return AXIS + lane * this.laneHeight
  }

  /** The lane at a height; undefined above and below the lanes. */
  laneAt(y) {
    const lane = Math.floor((y - AXIS) / this.laneHeight)
    return this.#data.nodes[lane] && y >= AXIS ? lane : undefined
  }

  x(at) {
    const { from, to } = this.#view
    return ((at - from) / (to - from)) * this.#width
  }

  timeAt(x) {
    const { from, to } = this.#view
    return from + (x / this.#width) * (to - from)
  }

  draw() {
    const width = this.#canvas.parentElement.clientWidth
    this.#width = width
    const ratio = window.devicePixelRatio || 1
    fit(this.#canvas, { width, height: this.height, ratio })
    const context = this.#context
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.clearRect(0, 0, width, this.height)
    context.font = FONT
    context.textBaseline = 'middle'
    this.#axis()
    const counts = this.#counts()
    for (let lane = 0; lane < this.#data.nodes.length; lane++) {
      this.#lane(lane)
      this.#bars(lane, counts)
    }
    this.#mark()
    this.#epochs()
  }

  #axis() {
    const context = this.#context
    const { from, to } = this.#view
    const step = STEPS.find((each) => ((to - from) / each) * 84 < this.#width) ?? STEPS.at(-1)
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const x = Math.round(this.x(at)) + 0.5
      this.#line({ x, y: 18, bottom: this.height, colour: 'line' })
      context.fillStyle = this.colours.dim
      context.textAlign = x < 30 ? 'left' : x > this.#width - 30 ? 'right' : 'center'
      context.fillText(clock(at, step), Math.min(Math.max(x, 0), this.#width), 9)
    }
    context.textAlign = 'left'
  }

  #line({ x, y, right = x, bottom, colour, dash = [], width = 1 }) {
    const context = this.#context
    context.strokeStyle = this.colours[colour]
    context.lineWidth = width
    context.setLineDash(dash)
    context.beginPath()
    context.moveTo(x, y)
    context.lineTo(right, bottom)
    context.stroke()
    context.setLineDash([])
  }

  #lane(lane) {
    const { node, runs } = this.#data.nodes[lane]
    const top = this.topOf(lane) + HEAD
    this.#context.fillStyle = this.colours.line
    this.#context.fillRect(0, this.topOf(lane), this.#width, 1)
    for (const [i, run] of runs.entries()) this.#run({ run, next: runs[i + 1], top })
    for (const { from, to } of this.#data.leads.filter((lead) => lead.node === node))
      this.#span({ from, to, top, colour: 'lead', text: 'leads', ink: 'on-lead' })
    for (const { from, to, end } of runs.flatMap((run) =>
      run.losses.map((loss) => ({ ...loss, end: run.to })),
    ))
      this.#span({ from, to: to ?? end, top, colour: 'fault', text: 'no ledger', ink: 'page' })
    this.#catchUps(lane, runs)
  }

  #run({ run, next, top }) {
    const { to } = this.#data
    const end = run.to
    const ready = run.ready ?? end
    this.#span({ from: run.from, to: ready, top, colour: 'starting', text: 'starts', ink: 'ink' })
    this.#span({ from: ready, to: end, top, colour: 'ready', text: 'ready', ink: 'ink' })
    if (run.end === 'open') {
      // The node may run, and have nothing to write.
      this.#context.globalAlpha = 0.4
      this.#span({ from: end, to, top, colour: 'ready' })
      this.#context.globalAlpha = 1
      return
    }
    if (end > to) return
    const isFault = run.end !== 'stopped'
    const colour = isFault ? 'fault' : 'dim'
    const [x, after] = [this.x(end), this.x(next?.from ?? to)]
    const middle = top + BAR / 2
    this.#line({ x, y: middle, right: after, bottom: middle, colour, width: 1.5, dash: [3, 3] })
    if (isFault) {
      this.#line({ x: x - 5, y: middle - 5, right: x + 5, bottom: middle + 5, colour, width: 3 })
      this.#line({ x: x - 5, y: middle + 5, right: x + 5, bottom: middle - 5, colour, width: 3 })
    } else this.#line({ x, y: top, bottom: top + BAR, colour, width: 3 })
    const texts = isFault ? goneTexts(run, next) : ['stopped']
    const room = after - Math.max(x, 0) - 24
    const text = texts.find((each) => this.#context.measureText(each).width < room)
    if (text) this.#text(text, Math.max(x, 0) + 12, middle, colour)
  }

  /** Catch-ups are told beside the name of the node, at their time, where there is room. */
  #catchUps(lane, runs) {
    let free = this.labelEnds[lane] ?? 0
    const y = this.topOf(lane) + HEAD / 2
    for (const { at, ms, from, to } of runs.flatMap(({ catchUps }) => catchUps)) {
      if (to - from < 2 || this.x(at) < 0 || this.x(at) > this.#width) continue
      this.#span({ from: at - ms, to: at, top: y + 8, height: 4, colour: 'ledger' })
      const text = `caught up ${from}–${to}`
      const width = this.#context.measureText(text).width
      const left = Math.min(this.x(at), this.#width - width - 4)
      if (left < free) continue
      free = left + width + 10
      this.#text(text, left, y, 'ledger')
    }
  }

  #span({ from, to, top, height = BAR, colour, text, ink }) {
    const [left, right] = [Math.max(this.x(from), -10), Math.min(this.x(to), this.#width + 10)]
    if (right < 0 || left > this.#width || right < left) return
    const context = this.#context
    context.fillStyle = this.colours[colour]
    context.fillRect(left, top, Math.max(right - left, 3), height)
    const inside = Math.max(left, 0)
    if (!text || Math.min(right, this.#width) - inside < context.measureText(text).width + 10) return
    context.fillStyle = this.colours[ink]
    context.fillText(text, inside + 5, top + height / 2 + 0.5)
  }

  /** Text that can be read on whatever is below. */
  #text(text, x, y, colour) {
    const context = this.#context
    context.fillStyle = this.colours.page
    context.fillRect(x - 2, y - 8, context.measureText(text).width + 4, 16)
    context.fillStyle = this.colours[colour]
    context.fillText(text, x, y)
  }

  /** Events by lane, kind and bucket of time. */
  #counts() {
    const { at, node, kind } = this.#data.columns
    const { from, to, matching } = this.#view
    const buckets = Math.ceil(this.#width / BUCKET) + 1
    const lanes = this.#data.nodeNames.map((name) => this.#data.nodes.findIndex((each) => each.node === name))
    const counts = new Uint32Array(this.#data.nodes.length * KINDS.length * buckets)
    const scale = this.#width / BUCKET / (to - from)
    for (const i of matching) {
      if (at[i] < from || at[i] > to) continue
      const bucket = Math.floor((at[i] - from) * scale)
      counts[(lanes[node[i]] * KINDS.length + kind[i]) * buckets + bucket]++
    }
    return { counts, buckets }
  }

  #bars(lane, { counts, buckets }) {
    const context = this.#context
    let bottom = this.topOf(lane) + HEAD + BAR + GAP
    for (const { kinds, height } of this.#tracks) {
      bottom += height
      const columns = kinds.map((kind) => (lane * KINDS.length + KINDS.indexOf(kind)) * buckets)
      let most = 4
      for (let bucket = 0; bucket < buckets; bucket++) most = Math.max(most, sumAt(counts, columns, bucket))
      for (let bucket = 0; bucket < buckets; bucket++) {
        const sum = sumAt(counts, columns, bucket)
        if (sum === 0) continue
        const bar = 4 + (height - 4) * (Math.log1p(sum) / Math.log1p(most))
        let y = bottom
        for (const [k, column] of columns.entries()) {
          const part = (counts[column + bucket] / sum) * bar
          if (part === 0) continue
          context.fillStyle = this.colours[kinds[k]]
          context.fillRect(bucket * BUCKET, y - part, BUCKET - 1, part)
          y -= part
        }
      }
      bottom += GAP
    }
  }

  /** A line through all lanes for each epoch, and its name where there is room. */
  #epochs() {
    const ends = [0, 0]
    for (const { at, owner, epoch, rotated } of this.#data.epochs) {
      const x = this.x(at)
      if (x < 0 || x > this.#width || (!rotated && epoch === 1)) continue
      this.#line({ x, y: 22, bottom: this.height, colour: 'epoch', width: 1.5, dash: [5, 3] })
      const text = `${owner} epoch ${epoch}`
      const width = this.#context.measureText(text).width
      const left = Math.min(x + 4, this.#width - width)
      const row = ends.findIndex((end) => end < left)
      if (row < 0) continue
      ends[row] = left + width + 8
      this.#text(text, left, 28 + row * 16, 'epoch')
    }
  }

  /** A line at the chosen moment or event. */
  #mark() {
    const { mark } = this.#view
    if (mark === undefined) return
    const x = this.x(mark)
    this.#line({ x, y: 18, bottom: this.height, colour: 'ink', width: 1.5 })
    const context = this.#context
    context.fillStyle = this.colours.ink
    context.beginPath()
    context.moveTo(x - 6, 18)
    context.lineTo(x + 6, 18)
    context.lineTo(x, 26)
    context.fill()
  }
}

/** Words for the time after a run without a stop, the longest first. */
function goneTexts(run, next) {
  if (next === undefined) return ['ended without a stop', 'ended']
  const seconds = ((next.ready ?? next.from) - run.to) / 1000
  const long = seconds < 120 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`
  return [`ended without a stop, back after ${long}`, `gone ${long}`, 'gone']
}

function sumAt(counts, columns, bucket) {
  let sum = 0
  for (const column of columns) sum += counts[column + bucket]
  return sum
}

/** Sets the size of a canvas where it has changed: setting it clears the canvas. */
function fit(canvas, { width, height, ratio }) {
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)]
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w
    canvas.height = h
    canvas.style.height = `${height}px`
  }
}

/** The text of a mark of the axis, by the distance of two marks in milliseconds. */
function clock(at, step) {
  const time = new Date(at).toISOString()
  if (step >= 86_400_000) return time.slice(0, 10)
  if (step >= 60_000) return at % 86_400_000 === 0 ? time.slice(5, 10) : time.slice(11, 16)
  return step >= 1000 ? time.slice(11, 19) : time.slice(11, 23)
}
