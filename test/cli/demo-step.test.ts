// `coffer demo --step`, on a terminal that `script` of util-linux makes.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Folder, refused, until } from './cli.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const HAS_SCRIPT = /util-linux/.test(spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout ?? '')

class TerminalDemo implements Disposable {
  readonly #child: ChildProcess
  told = ''

  constructor(folder: Folder) {
    const command = `"${process.execPath}" "${MAIN}" demo rotation --step`
    const env = { ...process.env, TMPDIR: folder.path, NO_COLOR: '1' }
    this.#child = spawn('script', ['-qec', command, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      this.told += chunk
    })
  }

  press(key: string): void {
    this.#child.stdin?.write(key)
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  get code(): number | null {
    return this.#child.exitCode
  }

  get chapters(): number {
    return [...this.told.matchAll(/^\d\. /gm)].length
  }

  /** Waits for Enter so many times. */
  async pauses(count: number): Promise<void> {
    const now = (): number => this.told.split('[Enter] ').length - 1
    await until(`pause ${count}`, () => now() === count || this.hasEnded)
    assert.equal(now(), count, this.told)
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGTERM') // ends the terminal, and SIGHUP ends the demo
  }
}

function skipWithoutTerminal(t: TestContext): boolean {
  if (!HAS_SCRIPT) t.skip('`script` of util-linux is not installed')
  return !HAS_SCRIPT
}

test('--step: Enter begins every chapter but the first', async (t) => {
  if (skipWithoutTerminal(t)) return
  using folder = new Folder()
  using demo = new TerminalDemo(folder)
  for (let chapter = 1; chapter <= 4; chapter++) {
    await demo.pauses(chapter)
    assert.equal(demo.chapters, chapter, demo.told)
    demo.press('\n')
  }
  await until('the end', () => demo.hasEnded)
  assert.equal(demo.chapters, 5)
  assert.match(demo.told, /✓ 7 claims checked, all true/)
  assert.equal(demo.code, 0)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('--step: after Ctrl-D the demo goes on to its end without a pause', async (t) => {
  if (skipWithoutTerminal(t)) return
  using folder = new Folder()
  using demo = new TerminalDemo(folder)
  await demo.pauses(1)
  demo.press('\u0004')
  await until('the end', () => demo.hasEnded)
  await demo.pauses(1)
  assert.equal(demo.chapters, 5)
  assert.equal(demo.code, 0)
})

test('--step: Ctrl-C in a pause leaves nothing', async (t) => {
  if (skipWithoutTerminal(t)) return
  using folder = new Folder()
  using demo = new TerminalDemo(folder)
  await demo.pauses(1)
  demo.press('\u0003')
  await until('the end', () => demo.hasEnded)
  assert.equal(demo.code, 130)
  assert.doesNotMatch(demo.told, /claims checked/)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('--step without a terminal is used wrongly', async () => {
  using folder = new Folder()
  const told = await refused(2, ['demo', '--step'], { env: { TMPDIR: folder.path } })
  assert.match(told, /stdin is not a terminal: run the demo in a terminal/)
  assert.deepEqual(readdirSync(folder.path), [])
})
