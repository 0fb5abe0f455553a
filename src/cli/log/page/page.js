// The page: texts, filters, keyboard and pointer around the lanes and the list.
import { Lanes } from './lanes.js'
import { List } from './list.js'
import { Overview } from './overview.js'
import { Pointer } from './pointer.js'
import { eventOf, KIND_WORDS, KINDS, readData, View } from './view.js'

const byId = (id) => document.getElementById(id)
const data = readData(byId('data').textContent)
const begin = data.from
let isDrawing = false
let moment = -1

const view = new View(data, () => schedule())
const lanes = new Lanes({ data, view, canvas: byId('canvas') })
const overview = new Overview({ data, view, canvas: byId('overview') })
new Pointer({ data, view, lanes, canvas: byId('canvas'), tip: byId('tip') })
const list = new List({ data, view, list: byId('list'), rows: byId('rows') })

/** Everything is drawn once a frame, however much has changed. */
function schedule() {
  if (isDrawing) return
  isDrawing = true
  requestAnimationFrame(draw)
}

function draw() {
  isDrawing = false
  lanes.draw()
  overview.draw(lanes.colours)
  const shown = list.update()
  byId('count').textContent =
    shown === data.columns.count ? number(shown) : `${number(shown)} of ${number(data.columns.count)}`
  showDetail()
  for (const button of byId('kinds').children)
    button.setAttribute('aria-pressed', String(!view.hiddenKinds.has(button.dataset.kind)))
  for (const label of byId('labels').children)
    label.setAttribute('aria-pressed', String(!view.hiddenNodes.has(Number(label.dataset.number))))
}

function showDetail() {
  const detail = byId('detail')
  detail.hidden = view.selected < 0
  if (view.selected < 0) return
  const { time, node, name, seq, revision, details } = eventOf(data, view.selected)
  const at = revision === '' ? '' : `  revision ${revision}`
  detail.textContent = `${time}  ${node}  ${seq}${at}\n${name}\n${details.replace(/ (?=[a-z_]+=)/g, '\n')}`
}

// ---- texts

function number(count) {
  return count.toLocaleString('en')
}

function element(tag, { text, className, ...dataset }) {
  const made = document.createElement(tag)
  if (text !== undefined) made.textContent = text
  if (className) made.className = className
  Object.assign(made.dataset, dataset)
  return made
}

/** Time since the begin, as `1:02.5`. */
function since(at) {
  const seconds = Math.max(0, at - begin) / 1000
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)]
  const rest = (seconds % 60).toFixed(1).padStart(4, '0')
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest.slice(0, 2)}` : `${minutes}:${rest}`
}

function writeTexts() {
  const { nodes, headline, from, to, totals, columns } = data
  document.title = `${headline} – Coffer`
  byId('headline').textContent = headline
  const times = [from, to].map((at) => new Date(at).toISOString().replace('T', ' ').slice(0, 19))
  const until = times[0].slice(0, 10) === times[1].slice(0, 10) ? times[1].slice(11) : times[1]
  const names = nodes.map(({ node }) => node).join(', ')
  const revisions = data.revision === 0 ? '' : ` · to revision ${number(data.revision)}`
  const whole = `${times[0]} to ${until} UTC, ${data.duration}`
  byId('range').textContent =
    `${nodes.length} node${nodes.length === 1 ? '' : 's'}: ${names} · ${whole}${revisions}`
  const counts = [
    ['events', columns.count],
    ['tokens issued', totals.issued],
    ['tokens resolved', totals.resolved],
    ['secrets written', totals.written],
    ['requests refused', totals.refused],
  ]
  for (const [words, count] of counts.filter(([, each]) => each > 0)) {
    const item = element('li', { text: ` ${words}` })
    item.prepend(element('b', { text: number(count) }))
    byId('totals').append(item)
  }
}

function writeStory() {
  for (const [i, { at, kind, nodes, text }] of data.story.entries()) {
    const item = element('li', { className: kind })
    const button = element('button', { className: 'moment' })
    button.type = 'button'
    button.append(element('time', { text: since(at) }))
    const words = element('span', {})
    for (const node of nodes) words.append(element('b', { text: node }), ' ')
    words.append(text)
    button.append(words)
    button.addEventListener('click', () => goTo(i))
    item.append(button)
    byId('story').append(item)
  }
}

function writeLanes() {
  const counts = new Uint32Array(data.nodeNames.length)
  for (const node of data.columns.node) counts[node]++
  for (const [lane, { node, runs }] of data.nodes.entries()) {
    const events = counts[data.nodeNames.indexOf(node)] ?? 0
    const label = element('button', { className: 'lane', node, number: String(data.nodeNames.indexOf(node)) })
    label.type = 'button'
    label.title = 'show or hide the events of this node'
    label.style.top = `${lanes.topOf(lane) + 2}px`
    const starts = runs.filter(({ started }) => started).length
    const words = ` ${number(events)} events${starts > 1 ? `, started ${starts} times` : ''}`
    label.append(element('b', { text: node }), element('span', { text: words }))
    label.addEventListener('click', () => toggle(view.hiddenNodes, Number(label.dataset.number)))
    byId('labels').append(label)
    lanes.labelEnds.push(label.offsetLeft + label.offsetWidth + 8)
  }
}

/** Columns of the list as wide as their longest text. */
function setWidths() {
  const node = Math.max(...data.nodeNames.map(({ length }) => length))
  byId('list').style.setProperty('--node-width', `${Math.min(node, 24)}ch`)
  byId('list').style.setProperty('--revision-width', `${String(data.revision).length}ch`)
}

function writeFilters() {
  const counts = new Uint32Array(KINDS.length)
  for (const kind of data.columns.kind) counts[kind]++
  for (const [i, kind] of KINDS.entries()) {
    if (counts[i] === 0) continue
    const button = element('button', { text: `${KIND_WORDS[kind]} `, className: `kind ${kind}`, kind })
    button.append(element('small', { text: number(counts[i]) }))
    button.type = 'button'
    button.addEventListener('click', () => toggle(view.hiddenKinds, kind))
    byId('kinds').append(button)
  }
  byId('owner').parentElement.hidden = data.owners.length < 2
  for (const [i, owner] of data.owners.entries()) {
    const option = element('option', { text: owner })
    option.value = String(i)
    byId('owner').append(option)
  }
}

function toggle(set, member) {
  if (!set.delete(member)) set.add(member)
  view.filter()
}

// ---- moments

/** Shows a moment of the story, and selects an event of the moment. */
function goTo(i) {
  const chosen = data.story[i]
  moment = i
  const story = byId('story')
  for (const [k, item] of [...story.children].entries()) item.classList.toggle('chosen', k === i)
  // The story scrolls, the page does not: the lanes stay where they are.
  story.scrollTop = story.children[i].offsetTop - story.clientHeight / 2
  const words = `${since(chosen.at)}  ${chosen.nodes.join(', ')} ${chosen.text}`
  byId('moment').replaceChildren(element('span', { text: words, className: `mark ${chosen.kind}` }))
  const { at, node } = data.columns
  const isAt = (event) => at[event] === chosen.at && chosen.nodes.includes(data.nodeNames[node[event]])
  view.select(view.matching.find(isAt) ?? -1, chosen.at)
  requestAnimationFrame(() => list.reveal())
}

function step(by) {
  const { story } = data
  for (let i = moment + by; i >= 0 && i < story.length; i += by) {
    if (story[i].kind !== 'activity') return goTo(i)
  }
}

// ---- keyboard

const KEYS = {
  ArrowLeft: () => view.pan(-0.2),
  ArrowRight: () => view.pan(0.2),
  ArrowUp: () => list.move(-1),
  ArrowDown: () => list.move(1),
  '+': () => view.zoom(0.6),
  '=': () => view.zoom(0.6),
  '-': () => view.zoom(1 / 0.6),
  0: () => view.show(view.least, view.most),
  n: () => step(1),
  p: () => step(-1),
  '/': () => byId('text').focus(),
  '?': () => byId('keys').showModal(),
  Escape: () => reset(),
}

function reset() {
  byId('text').value = ''
  byId('owner').value = ''
  byId('moment').textContent = ''
  moment = -1
  for (const item of byId('story').children) item.classList.remove('chosen')
  view.reset()
}

function onKey(event) {
  const { key, target, ctrlKey, metaKey, altKey } = event
  if (ctrlKey || metaKey || altKey || byId('keys').open) return
  if (target.matches('input, select')) {
    if (key !== 'Escape') return
    target.blur()
  }
  const kind = /^[1-9]$/.test(key) ? byId('kinds').children[Number(key) - 1] : undefined
  const action = kind ? () => kind.click() : Object.hasOwn(KEYS, key) ? KEYS[key] : undefined
  if (action === undefined) return
  event.preventDefault()
  action()
}

// ---- start

function listen() {
  document.addEventListener('keydown', onKey)
  byId('in').addEventListener('click', KEYS['+'])
  byId('out').addEventListener('click', KEYS['-'])
  byId('fit').addEventListener('click', KEYS[0])
  byId('next').addEventListener('click', KEYS.n)
  byId('previous').addEventListener('click', KEYS.p)
  byId('help').addEventListener('click', KEYS['?'])
  byId('text').addEventListener('input', ({ target }) => {
    view.text = target.value
    view.filter()
  })
  byId('owner').addEventListener('change', ({ target }) => {
    view.owner = target.value === '' ? -1 : Number(target.value)
    view.filter()
  })
  new ResizeObserver(schedule).observe(byId('lanes'))
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    lanes.readColours()
    schedule()
  })
}

lanes.readColours()
writeTexts()
writeFilters()
writeLanes()
writeStory()
setWidths()
listen()
draw()
document.documentElement.dataset.ready = 'yes'
