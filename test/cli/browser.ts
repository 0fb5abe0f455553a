// A headless Chromium for tests of pages, by its DevTools over two pipes: no port, no package.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { signalGroup } from '../signals.ts'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

/** For the option `skip` of a test. */
export const NO_CHROMIUM = CHROMIUM === undefined && 'there is no Chromium on this machine'

const CALL_MS = 20_000
const CLOSE_MS = 5_000

type Message = {
  readonly id?: number
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly message: string }
}
type Waiting = { resolve(result: Record<string, unknown>): void; reject(error: Error): void }

export class Browser implements AsyncDisposable {
  /** Exceptions, errors and warnings of the console, refusals of the Content-Security-Policy. */
  readonly complaints: string[] = []
  readonly #profile = mkdtempSync(join(tmpdir(), 'coffer-chromium-'))
  readonly #child: ChildProcess
  readonly #input: Writable
  readonly #waiting = new Map<number, Waiting>()
  #session = ''
  #id = 0
  #loaded: (() => void) | undefined

  private constructor() {
    assert.ok(CHROMIUM)
    const options = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--remote-debugging-pipe',
      '--no-first-run',
    ]
    this.#child = spawn(CHROMIUM, [...options, `--user-data-dir=${this.#profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      detached: true, // a group of its own, so that its children can be ended with it
      env: { PATH: process.env.PATH, HOME: this.#profile, XDG_RUNTIME_DIR: this.#profile },
    })
    this.#input = this.#child.stdio[3] as Writable
    this.#input.on('error', () => undefined)
    this.#listen(this.#child.stdio[4] as Readable)
    this.#child.once('close', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('Chromium has ended'))
    })
  }

  /** A browser with an empty tab. */
  static async start(): Promise<Browser> {
    const browser = new Browser()
    try {
      await browser.#attach()
      return browser
    } catch (error) {
      await browser[Symbol.asyncDispose]()
      throw error
    }
  }

  async #attach(): Promise<void> {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true })
    this.#session = String(sessionId)
    for (const domain of ['Page', 'Runtime', 'Log']) await this.call(`${domain}.enable`)
  }

  async call(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#id
    const timer = setTimeout(
      () => this.#settle({ id, error: { message: `${method} took too long` } }),
      CALL_MS,
    )
    const session = this.#session === '' ? {} : { sessionId: this.#session }
    const answer = new Promise<Record<string, unknown>>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
    })
    this.#input.write(`${JSON.stringify({ id, method, params, ...session })}\0`)
    return answer.finally(() => clearTimeout(timer))
  }

  /** Opens a file; resolves after its `load` event. */
  async open(file: string, { width = 1280, height = 900, dark = false } = {}): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 600 }
    await this.call('Emulation.setDeviceMetricsOverride', metrics)
    const features = [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]
    await this.call('Emulation.setEmulatedMedia', { features })
    const loaded = new Promise<void>((resolve) => {
      this.#loaded = resolve
    })
    await this.call('Page.navigate', { url: pathToFileURL(file).href })
    await loaded
  }

  /** The value of an expression in the page, of which promises are awaited. */
  async evaluate<T>(expression: string): Promise<T> {
    const options = { returnByValue: true, awaitPromise: true }
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, ...options })
    assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails))
    return (result as { readonly value: T }).value
  }

  /** Presses a key, and waits until the page is drawn again. */
  async press(key: string): Promise<void> {
    const text = key.length === 1 ? { text: key } : {}
    await this.call('Input.dispatchKeyEvent', { type: 'keyDown', key, ...text })
    await this.call('Input.dispatchKeyEvent', { type: 'keyUp', key })
    await this.drawn()
  }

  async drawn(): Promise<void> {
    await this.evaluate(
      'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))',
    )
  }

  /** A picture of the whole page, as PNG. */
  async picture(): Promise<Buffer> {
    const { data } = await this.call('Page.captureScreenshot', { captureBeyondViewport: true })
    return Buffer.from(String(data), 'base64')
  }

  /** By its own command, which ends the children that write into the profile; else by SIGKILL to all. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { exitCode, signalCode, pid } = this.#child
    if (exitCode === null && signalCode === null && pid !== undefined) {
      const ended = new Promise((resolve) => this.#child.once('close', resolve))
      const timer = setTimeout(() => signalGroup(pid, 'SIGKILL'), CLOSE_MS)
      this.#session = ''
      await Promise.all([ended, this.call('Browser.close').catch(() => undefined)])
      clearTimeout(timer)
    }
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }

  #listen(output: Readable): void {
    let rest = ''
    output.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\0')
      rest = parts.pop() ?? ''
      for (const part of parts) this.#settle(JSON.parse(part))
    })
  }

  #settle({ id = 0, method, params, result = {}, error }: Message): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error) waiting?.reject(new Error(error.message))
    else waiting?.resolve(result)
    if (method === 'Page.loadEventFired') this.#loaded?.()
    const isError = method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded'
    if (
      isError ||
      (method === 'Runtime.consoleAPICalled' && /error|warning|assert/.test(String(params?.type)))
    )
      this.complaints.push(JSON.stringify(params))
  }
}
