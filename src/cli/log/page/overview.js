// The whole time in a strip: how many events, faults, and the part that the lanes show.

const STRIP_HEIGHT = 34
const STRIP_BUCKET = 2

export class Overview {
  #data
  #view
  #canvas
  #faults

  constructor({ data, view, canvas }) {
    this.#data = data
    this.#view = view
    this.#canvas = canvas
    this.#faults = data.nodes.flatMap(({ runs }) =>
      runs.flatMap((run) => [
        ...run.losses.map(({ from }) => from),
        ...(run.end === 'gone' || run.end === 'silent' ? [run.to] : []),
      ]),
    )
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId)
      this.#moveTo(event)
    })
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons > 0) this.#moveTo(event)
    })
  }

  draw(colours) {
    const { least, most, from, to, matching } = this.#view
    const width = this.#canvas.parentElement.clientWidth
    const ratio = window.devicePixelRatio || 1
    this.#canvas.width = Math.round(width * ratio)
    this.#canvas.height = Math.round(STRIP_HEIGHT * ratio)
    const context = this.#canvas.getContext('2d')
    context.scale(ratio, ratio)
    const x = (at) => ((at - least) / (most - least)) * width
    context.fillStyle = colours.panel
    context.fillRect(0, 0, width, STRIP_HEIGHT)
    context.fillStyle = colours.page
    context.fillRect(x(from), 0, x(to) - x(from), STRIP_HEIGHT)
    const counts = new Uint32Array(Math.ceil(width / STRIP_BUCKET) + 1)
    for (const i of matching) counts[Math.floor(x(this.#data.columns.at[i]) / STRIP_BUCKET)]++
    const high = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 1))
    context.fillStyle = colours.dim
    for (const [i, count] of counts.entries()) {
      const bar = (Math.log1p(count) / high) * (STRIP_HEIGHT - 8)
      context.fillRect(i * STRIP_BUCKET, STRIP_HEIGHT - bar, STRIP_BUCKET - 0.5, bar)
    }
    context.fillStyle = colours.fault
    for (const at of this.#faults) context.fillRect(x(at) - 1.5, 0, 3, STRIP_HEIGHT)
    context.strokeStyle = colours.lead
    context.lineWidth = 2
    context.strokeRect(x(from) + 1, 1, Math.max(x(to) - x(from) - 2, 2), STRIP_HEIGHT - 2)
  }

  #moveTo({ offsetX }) {
    const { least, most, from, to } = this.#view
    const at = least + (offsetX / this.#canvas.clientWidth) * (most - least)
    this.#view.show(at - (to - from) / 2, at + (to - from) / 2)
  }
}
