// The list of events: only the rows that can be seen are in the document.
import { eventOf } from './view.js'

const ROWS_AROUND = 10

export class List {
  #data
  #view
  #list
  #rows
  #shown = new Uint32Array(0)
  #rowHeight = 24

  constructor({ data, view, list, rows }) {
    this.#data = data
    this.#view = view
    this.#list = list
    this.#rows = rows
    list.addEventListener('scroll', () => this.#fill(), { passive: true })
    rows.addEventListener('click', ({ target }) => {
      const row = target.closest('[data-event]')
      if (row) view.select(Number(row.dataset.event))
    })
  }

  /** Shows the events of the view. Returns their number. */
  update() {
    this.#shown = this.#view.shown()
    this.#rowHeight = matchMedia('(max-width: 600px)').matches ? 46 : 24
    this.#rows.style.height = `${this.#shown.length * this.#rowHeight}px`
    this.#fill()
    return this.#shown.length
  }

  /** Selects the event `by` places after the selected event. */
  move(by) {
    if (this.#shown.length === 0) return
    const at = this.#shown.indexOf(this.#view.selected)
    const next = at < 0 ? (by > 0 ? 0 : this.#shown.length - 1) : at + by
    const place = Math.min(Math.max(next, 0), this.#shown.length - 1)
    this.#view.select(this.#shown[place])
    this.reveal()
  }

  /** Scrolls the list, not the page, to the selected event. */
  reveal() {
    const place = this.#shown.indexOf(this.#view.selected)
    if (place < 0) return
    const top = place * this.#rowHeight
    const { scrollTop, clientHeight } = this.#list
    if (top < scrollTop || top + this.#rowHeight > scrollTop + clientHeight)
      this.#list.scrollTop = top - clientHeight / 2
    this.#fill()
  }

  #fill() {
    const height = this.#rowHeight
    const first = Math.max(0, Math.floor(this.#list.scrollTop / height) - ROWS_AROUND)
    const last = Math.min(
      this.#shown.length,
      Math.ceil((this.#list.scrollTop + this.#list.clientHeight) / height) + ROWS_AROUND,
    )
    const rows = []
    for (let place = first; place < last; place++) rows.push(this.#row(this.#shown[place], place * height))
    this.#rows.replaceChildren(...rows)
    const { selected } = this.#view
    if (selected < 0) this.#list.removeAttribute('aria-activedescendant')
    else this.#list.setAttribute('aria-activedescendant', `event-${selected}`)
  }

  #row(i, top) {
    const { time, node, name, kind, revision, details } = eventOf(this.#data, i)
    const row = document.createElement('div')
    row.className = 'row'
    row.dataset.event = String(i)
    row.id = `event-${i}`
    row.setAttribute('role', 'option')
    row.setAttribute('aria-selected', String(i === this.#view.selected))
    row.style.top = `${top}px`
    for (const [part, text] of Object.entries({
      time: time.slice(11, -1),
      of: node,
      revision,
      name,
      details,
    })) {
      const cell = document.createElement('span')
      cell.className = part === 'name' ? `name ${kind}` : part
      cell.textContent = text
      row.append(cell)
    }
    return row
  }
}
