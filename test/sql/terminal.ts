// A command on a terminal of its own, by `script` of util-linux: tests type, and read the screen as a stream.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { until } from '../cli/cli.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Whether the machine has a `script` that takes `--command` and passes the exit code on. */
export const hasTerminals = /util-linux/.test(String(spawnSync('script', ['--version']).stdout ?? ''))

type Options = {
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  /** A file for stdout, instead of the terminal. */
  readonly output?: string
}

export class Terminal implements Disposable {
  readonly #child: ChildProcess
  /** All text since the start; `\r\n` is `\n`. */
  text = ''

  constructor(args: readonly string[], { env, cwd, output }: Options) {
    const command = [process.execPath, MAIN, ...args].map(quoted)
    if (output !== undefined) command.push(`> ${quoted(output)}`)
    this.#child = spawn('script', ['--quiet', '--return', '--command', command.join(' '), '/dev/null'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, TERM: 'xterm', NO_COLOR: '1', COLUMNS: '100', ...env },
      ...(cwd === undefined ? {} : { cwd }),
    })
    this.#child.stdin?.on('error', () => {})
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.text += text.replaceAll('\r\n', '\n')
    })
  }

  type(text: string): void {
    this.#child.stdin?.write(text)
  }

  /** Waits until the text comes after all that was seen before. Returns the new text up to its end. */
  async shows(text: string | RegExp): Promise<string> {
    const found = await until(`${text} in ${JSON.stringify(this.text)}`, () => {
      const at = typeof text === 'string' ? this.text.indexOf(text) : this.text.search(text)
      return at < 0 ? undefined : { at }
    })
    const length = typeof text === 'string' ? text.length : (text.exec(this.text)?.[0].length ?? 0)
    const seen = this.text.slice(0, found.at + length)
    this.text = this.text.slice(seen.length)
    return seen
  }

  /** The exit code. */
  async ended(): Promise<number> {
    await until('the end of the command', () => this.#child.exitCode !== null)
    assert.ok(this.#child.exitCode !== null)
    return this.#child.exitCode
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
