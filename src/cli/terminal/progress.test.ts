import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProgress } from './progress.ts'

class FakeTerminal extends PassThrough {
  readonly isTTY = true
  readonly columns = 120
  text = ''

  constructor() {
    super()
    this.setEncoding('utf8').on('data', (text: string) => {
      this.text += text
    })
  }
}

test('a known total is shown as a bar with the rate and the time left, and cleared at the end', async () => {
  const terminal = new FakeTerminal()
  const progress = await startProgress({ label: 'restoring', unit: 'entries', total: 200 }, terminal)
  for (let done = 0; done <= 200; done += 10) {
    progress.show(done)
    await sleep(25)
  }
  progress.end()
  assert.match(terminal.text, /restoring \[=+-+\] \d+ %, \d+ of 200 entries, [1-9]\d* entries\/s, \d+s left/)
  assert.match(terminal.text, /\x1b\[2K$/, 'the line is cleared')
})

test('an unknown total is shown as a counter', async () => {
  const terminal = new FakeTerminal()
  const progress = await startProgress({ label: 'backing up', unit: 'entries' }, terminal)
  progress.show(7)
  await sleep(150)
  progress.show(12, 'nearly done')
  progress.end()
  assert.match(terminal.text, /backing up: 7 entries/)
  assert.match(terminal.text, /nearly done: 12 entries/)
})

test('nothing is shown where stderr is not a terminal', async () => {
  const stream = new PassThrough()
  const progress = await startProgress({ label: 'restoring', unit: 'entries', total: 200 }, stream)
  progress.show(100)
  progress.end()
  assert.equal(stream.read(), null)
})
