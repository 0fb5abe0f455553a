// Mouse and fingers on the lanes: drag, pinch, wheel, a click at an event, words beside the pointer.

/** A pointer that moved less has clicked. In CSS pixels, like the distance to an event. */
const CLICK = 5
const NEAR = 8
const MOST_WORDS = 8

export class Pointer {
  #data
  #view
  #lanes
  #canvas
  #tip
  /** By pointer: where it is, in pixels from the left. */
  #fingers = new Map()
  #moved = 0

  constructor({ data, view, lanes, canvas, tip }) {
    this.#data = data
    this.#view = view
    this.#lanes = lanes
    this.#canvas = canvas
    this.#tip = tip
    canvas.addEventListener('pointerdown', (event) => this.#down(event))
    canvas.addEventListener('pointermove', (event) => this.#move(event))
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, (event) => this.#up(event))
    canvas.addEventListener('pointerleave', () => this.#hide())
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false })
    canvas.addEventListener('dblclick', ({ offsetX }) => view.zoom(0.4, lanes.timeAt(offsetX)))
  }

  #hide() {
    this.#tip.hidden = true
  }

  #down(event) {
    if (this.#fingers.size === 0) this.#moved = 0
    this.#fingers.set(event.pointerId, event.offsetX)
    this.#canvas.setPointerCapture(event.pointerId)
  }

  #move(event) {
    const { pointerId, offsetX } = event
    const before = this.#fingers.get(pointerId)
    if (before === undefined) return this.#tell(event)
    this.#hide()
    const others = [...this.#fingers].filter(([id]) => id !== pointerId).map(([, x]) => x)
    this.#fingers.set(pointerId, offsetX)
    this.#moved += Math.abs(offsetX - before)
    if (this.#moved < CLICK) return
    if (others.length === 0) return this.#view.pan((before - offsetX) / this.#canvas.clientWidth)
    const [width, widthBefore] = [Math.abs(offsetX - others[0]), Math.abs(before - others[0])]
    if (width > 10 && widthBefore > 10) this.#view.zoom(widthBefore / width, this.#lanes.timeAt(others[0]))
  }

  #up({ type, pointerId, offsetX, offsetY }) {
    this.#fingers.delete(pointerId)
    if (type === 'pointercancel' || this.#moved >= CLICK) return
    const near = this.#near(offsetX, offsetY)
    if (near.length > 0) this.#view.select(near[0])
  }

  #wheel(event) {
    const { ctrlKey, metaKey, shiftKey, deltaX, deltaY, offsetX } = event
    const across = shiftKey ? deltaY : Math.abs(deltaX) > Math.abs(deltaY) ? deltaX : 0
    if (ctrlKey || metaKey) this.#view.zoom(Math.exp(deltaY * 0.004), this.#lanes.timeAt(offsetX))
    else if (across !== 0) this.#view.pan(across / this.#canvas.clientWidth)
    else return
    event.preventDefault()
  }

  /** Numbers of the matching events beside a place, the most important first, then the nearest. */
  #near(x, y) {
    const lane = this.#lanes.laneAt(y)
    if (lane === undefined) return []
    const node = this.#data.nodeNames.indexOf(this.#data.nodes[lane].node)
    const { columns, names } = this.#data
    const [at, from, to] = [x, x - NEAR, x + NEAR].map((each) => this.#lanes.timeAt(each))
    const found = this.#view.matching.filter(
      (i) => columns.node[i] === node && columns.at[i] >= from && columns.at[i] <= to,
    )
    const weight = (i) => (/fault|node|ledger|epoch/.test(names[columns.name[i]].kind) ? 0 : 1)
    const distance = (i) => Math.abs(columns.at[i] - at)
    return [...found].sort((a, b) => weight(a) - weight(b) || distance(a) - distance(b))
  }

  #tell({ offsetX, offsetY }) {
    const near = this.#near(offsetX, offsetY)
    const counts = new Map()
    for (const i of near) {
      const { name } = this.#data.names[this.#data.columns.name[i]]
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    const time = new Date(this.#lanes.timeAt(offsetX)).toISOString().slice(11, -1)
    const lines = [...counts].slice(0, MOST_WORDS).map(([name, count]) => `${count} × ${name}`)
    this.#tip.hidden = false
    this.#tip.textContent = [time, ...lines].join('\n')
    const left = Math.min(offsetX + 14, this.#canvas.clientWidth - this.#tip.offsetWidth - 4)
    this.#tip.style.left = `${Math.max(left, 0)}px`
    this.#tip.style.top = `${Math.min(offsetY + 14, this.#canvas.clientHeight - this.#tip.offsetHeight - 4)}px`
  }
}
