// The page of coffer log --html: its text, and in a headless Chromium.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { filterOf } from '../../src/cli/log/filter.ts'
import { writeTimeline } from '../../src/cli/log/html.ts'
import { Browser, NO_CHROMIUM } from './browser.ts'
import { Folder } from './cli.ts'

const START = Date.UTC(2030, 0, 1, 12)

type Told = readonly [second: number, node: string, event: string, fields?: Record<string, unknown>]

/** Three nodes: n3 leads, is killed, and comes back; n1 has no ledger for a while. */
const STORY: readonly Told[] = [
  ...['n1', 'n2', 'n3'].flatMap((node): Told[] => [
    [0, node, 'node.started'],
    [1, node, 'node.ready', { revision: 1 }],
    [1.2, node, 'ledger.leader', { to: 'n3' }],
  ]),
  ...Array.from({ length: 60 }, (_, i): Told => {
    const owner = i % 2 ? 'clinic-a' : 'clinic-b'
    return [2 + i / 20, `n${1 + (i % 3)}`, 'tokens.issued', { owner, request: `r${i}`, count: 5, epoch: 1 }]
  }),
  [6, 'n1', 'ledger.leader', { from: 'n3', to: 'n2' }],
  [7, 'n2', 'epoch.rotated', { owner: 'clinic-a', epoch: 2, revision: 70, from: 1, to: 2 }],
  [8, 'n2', 'replica.applied', { revision: 71, from: 'n1' }],
  [12, 'n3', 'node.started'],
  [12.4, 'n3', 'replica.caught-up', { from: 60, to: 71, ms: 300 }],
  [12.5, 'n3', 'node.ready', { revision: 71 }],
  [14, 'n1', 'ledger.lost', { reason: 'no leader' }],
  [15, 'n1', 'request.refused', { owner: 'clinic-b', request: 'r99', reason: 'no-quorum' }],
  [16, 'n1', 'ledger.recovered'],
  ...['n1', 'n2', 'n3'].map((node): Told => [20, node, 'node.stopped']),
]

class Logs extends Folder {
  readonly page = this.file('timeline.html')

  write(told: readonly Told[]): void {
    const lines = new Map<string, string[]>()
    for (const [second, node, event, fields] of told) {
      const time = new Date(START + second * 1000).toISOString()
      const of = lines.get(node) ?? []
      lines.set(node, of)
      of.push(`${JSON.stringify({ time, node, seq: of.length + 1, event, ...fields })}\n`)
    }
    for (const [i, of] of [...lines.values()].entries()) {
      mkdirSync(this.file(`data-${i}`))
      writeFileSync(this.file(`data-${i}`, 'events.ndjson'), of.join(''))
    }
  }

  async timeline(told: readonly Told[]): Promise<string> {
    this.write(told)
    await writeTimeline({ paths: [this.path], out: this.page })
    return readFileSync(this.page, 'utf8')
  }
}

const text = (id: string): string => `document.getElementById('${id}').textContent`
const all = (selector: string): string =>
  `[...document.querySelectorAll('${selector}')].map((each) => each.textContent)`

const HOSTILE = '</script><script>hit = 1</script><!--<script><img src=x onerror="hit = 1">&lt;'

/** Every text of an event, also the names of members. */
const HOSTILE_EVENTS: readonly Told[] = [
  [0, HOSTILE, 'node.started'],
  [1, HOSTILE, HOSTILE, { revision: 1, [HOSTILE]: HOSTILE }],
  [
    2,
    'n2',
    'tokens.issued',
    { owner: HOSTILE, key_id: HOSTILE, request: HOSTILE, client: HOSTILE, count: 1 },
  ],
  [3, 'n2', 'epoch.rotated', { owner: HOSTILE, epoch: 2, revision: 5, from: HOSTILE, to: HOSTILE }],
  [4, 'n2', 'ledger.leader', { from: HOSTILE, to: HOSTILE }],
  [5, 'n2', 'ledger.lost', { reason: HOSTILE }],
  [6, 'n2', 'request.refused', { reason: HOSTILE, name: HOSTILE, names: [HOSTILE], part: { [HOSTILE]: 1 } }],
]

test('the page has no address, and a policy that allows its own script and style only', async () => {
  using logs = new Logs()
  const page = await logs.timeline(STORY)
  assert.doesNotMatch(page, /https?:|\/\/[a-z]|url\(|@import/)
  const policy = /content="(default-src[^"]*)"/.exec(page)?.[1]
  const hash = "'sha256-[A-Za-z0-9+/]{43}='"
  assert.match(
    policy ?? '',
    new RegExp(
      `^default-src 'none'; style-src ${hash}; script-src ${hash}; base-uri 'none'; form-action 'none'$`,
    ),
  )
  assert.match(page, /holds names: of owners, API keys, nodes, secrets, and addresses/)
})

test('texts of events end no element of the page', async () => {
  using logs = new Logs()
  const page = await logs.timeline(HOSTILE_EVENTS)
  assert.equal(page.match(/<\/script/gi)?.length, 2)
  assert.equal(page.match(/<script/gi)?.length, 2)
  assert.doesNotMatch(page, /<img|<!--/i)
})

test('logs without an event are an error, and leave no page', async () => {
  using logs = new Logs()
  logs.write([])
  mkdirSync(logs.file('n1'))
  writeFileSync(logs.file('n1', 'events.ndjson'), '')
  const timeline = writeTimeline({ paths: [logs.path], out: logs.page })
  await assert.rejects(timeline, { name: 'OperatorError', message: 'there is no event to show' })
  assert.throws(() => readFileSync(logs.page), { code: 'ENOENT' })
})

test('more events than a page can hold are refused, and leave no page', async () => {
  using logs = new Logs()
  logs.write(STORY)
  const timeline = writeTimeline({ paths: [logs.path], out: logs.page, most: 80 })
  await assert.rejects(timeline, { message: 'there are more than 80 events, too many for a page' })
  assert.throws(() => readFileSync(logs.page), { code: 'ENOENT' })
  const filter = filterOf({ until: new Date(START + 20_000).toISOString() })
  assert.deepEqual(await writeTimeline({ paths: [logs.path], out: logs.page, most: 80, filter }), {
    events: 78,
  })
})

test('a filter chooses events; faults and leaders are told all the same', async () => {
  using logs = new Logs()
  logs.write(STORY)
  const filter = filterOf({ event: ['epoch.rotated'] })
  const { events } = await writeTimeline({ paths: [logs.path], out: logs.page, filter })
  assert.equal(events, 1)
  const page = readFileSync(logs.page, 'utf8')
  assert.match(page, /"headline":"n3 was gone for 7\.5 s and came back; n1 was without the ledger/)
  assert.match(page, /"nodes":\["n2"\],"text":"leads, after n3"/)
  assert.doesNotMatch(page, /tokens\.issued/)
})

test('in a browser: lanes, events, story; keys zoom, filter, step; no complaint', {
  skip: NO_CHROMIUM,
}, async () => {
  using logs = new Logs()
  await logs.timeline(STORY)
  await using browser = await Browser.start()
  await browser.open(logs.page)
  await browser.drawn()
  assert.equal(
    await browser.evaluate(text('headline')),
    'n3 was gone for 7.5 s and came back; n1 was without the ledger for 2.0 s; the leader changed once; ' +
      'epochs were rotated once',
  )
  assert.deepEqual(await browser.evaluate(all('.lane b')), ['n1', 'n2', 'n3'])
  assert.equal(await browser.evaluate(text('count')), '81')
  const story = await browser.evaluate<string[]>(all('#story li'))
  assert.ok(story.includes('0:06.0n2 leads, after n3'), story.join('\n'))
  assert.deepEqual(await browser.evaluate(coloursIn('canvas')), {
    lead: true,
    fault: true,
    epoch: true,
    token: true,
  })

  const pressed = async (...keys: string[]): Promise<string> => {
    for (const key of keys) await browser.press(key)
    return browser.evaluate(text('count'))
  }
  assert.match(await pressed('+', '+', '+'), /^\d of 81$|^[1-7]\d of 81$/)
  assert.equal(await pressed('0'), '81')
  const kinds = await browser.evaluate<string[]>(all('.kind'))
  const tokens = kinds.findIndex((kind) => kind.startsWith('tokens'))
  assert.equal(await pressed(String(tokens + 1)), '21 of 81')
  assert.equal(await pressed('Escape'), '81')
  assert.equal(await pressed('/', 'r', '9', '9'), '1 of 81')
  assert.equal(await pressed('Escape'), '81')
  await pressed('n', 'n', 'n', 'n')
  assert.match(await browser.evaluate(text('moment')), /n3 ends without a stop$/)
  await pressed('p')
  assert.match(await browser.evaluate(text('moment')), /n3 leads$/)
  await pressed('ArrowDown')
  assert.match(await browser.evaluate(text('detail')), /2030-01-01T12:00:0/)
  await pressed('?')
  assert.equal(await browser.evaluate("document.getElementById('keys').open"), true)
  assert.deepEqual(browser.complaints, [])
})

test('in a browser: pointer, owner, a lane hidden, the whole on the width of a phone, light and dark', {
  skip: NO_CHROMIUM,
}, async () => {
  using logs = new Logs()
  await logs.timeline(STORY)
  await using browser = await Browser.start()
  await browser.open(logs.page, { width: 390, height: 844, dark: true })
  await browser.drawn()
  assert.equal(await browser.evaluate('document.documentElement.scrollWidth'), 390)
  const page = 'getComputedStyle(document.body).backgroundColor'
  const dark = await browser.evaluate(page)
  assert.deepEqual(await browser.evaluate(coloursIn('canvas')), {
    lead: true,
    fault: true,
    epoch: true,
    token: true,
  })
  await browser.open(logs.page)
  await browser.drawn()
  assert.notEqual(await browser.evaluate(page), dark)

  await browser.evaluate("document.querySelector('.lane').click()")
  await browser.drawn()
  assert.equal(await browser.evaluate(text('count')), '53 of 81')
  await browser.press('Escape')
  const choose =
    "const o = document.getElementById('owner'); o.value = '1'; o.dispatchEvent(new Event('change'))"
  await browser.evaluate(`{ ${choose} }`)
  await browser.drawn()
  assert.match(await browser.evaluate(text('count')), /^3[012] of 81$/)
  await browser.press('Escape')

  const { left, top, width } = await browser.evaluate<{ left: number; top: number; width: number }>(
    "document.getElementById('canvas').getBoundingClientRect().toJSON()",
  )
  const mouse = (type: string, x: number, more: object = {}): Promise<unknown> =>
    browser.call('Input.dispatchMouseEvent', { type, x: left + x, y: top + 100, button: 'left', ...more })
  await mouse('mouseMoved', width / 8, { button: 'none' })
  await browser.drawn()
  assert.match(await browser.evaluate(text('tip')), /× tokens\.issued/)
  await mouse('mousePressed', width / 8, { clickCount: 1 })
  await mouse('mouseReleased', width / 8, { clickCount: 1 })
  await browser.drawn()
  assert.match(await browser.evaluate(text('detail')), /n1.*\ntokens\.issued\n/)
  await mouse('mouseWheel', width / 8, { deltaX: 0, deltaY: -500, modifiers: 2 })
  await browser.drawn()
  assert.match(await browser.evaluate(text('count')), /^\d+ of 81$/)

  await browser.press('0')
  const fingers = (type: string, ...xs: number[]): Promise<unknown> =>
    browser.call('Input.dispatchTouchEvent', {
      type,
      touchPoints: xs.map((x, id) => ({ x: left + x, y: top + 100, id })),
    })
  await fingers('touchStart', width * 0.4, width * 0.6)
  for (const part of [0.1, 0.2, 0.3]) await fingers('touchMove', width * (0.4 - part), width * (0.6 + part))
  await fingers('touchEnd')
  await browser.drawn()
  assert.match(await browser.evaluate(text('count')), /^\d+ of 81$/)
  assert.deepEqual(browser.complaints, [])
})

test('in a browser: texts of events stay texts, and nothing can be loaded', {
  skip: NO_CHROMIUM,
}, async () => {
  using logs = new Logs()
  await logs.timeline(HOSTILE_EVENTS)
  await using browser = await Browser.start()
  await browser.open(logs.page)
  for (const key of ['n', 'n', 'n', 'ArrowDown', 'ArrowDown', 'ArrowDown']) await browser.press(key)
  assert.equal(await browser.evaluate('typeof hit'), 'undefined')
  assert.equal(await browser.evaluate('document.scripts.length + document.images.length'), 2)
  assert.deepEqual(await browser.evaluate(all('.lane b')), [HOSTILE, 'n2'].toSorted())
  assert.deepEqual(browser.complaints, [])

  const refusal =
    "addEventListener('securitypolicyviolation', ({ effectiveDirective }) => done(effectiveDirective))"
  const load = (code: string): string => `new Promise((done) => { ${refusal}; ${code} })`
  const image = "document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/' }))"
  assert.equal(await browser.evaluate(load(image)), 'img-src')
  assert.equal(await browser.evaluate(load("fetch('http://127.0.0.1:9/').catch(() => {})")), 'connect-src')
  const script = "document.body.append(Object.assign(document.createElement('script'), { text: 'hit = 1' }))"
  assert.equal(await browser.evaluate(load(script)), 'script-src-elem')
})

/** Whether a canvas has a pixel of each colour. */
function coloursIn(id: string): string {
  return `(() => {
    const canvas = document.getElementById('${id}')
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    const pixels = new Uint32Array(data.buffer)
    const style = getComputedStyle(document.documentElement)
    const colour = (name) => parseInt('ff' + style.getPropertyValue('--' + name).trim().slice(1).match(/../g).reverse().join(''), 16)
    return Object.fromEntries(['lead', 'fault', 'epoch', 'token'].map((name) => [name, pixels.includes(colour(name))]))
  })()`
}
