// A shell in which commands of documents run as they stand there.
import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { until } from './cli/cli.ts'

const COMMAND_MS = 60_000

/** A shell of which stdout and stderr are one stream, as on a terminal. */
export class Shell implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  #text = ''

  constructor(cwd: string) {
    const own = Object.entries(process.env).filter(([name]) => !/^(COFFER_|NODE_|FORCE_COLOR)/.test(name))
    const stdio = ['pipe', 'pipe', 'ignore'] as const
    this.#child = spawn('bash', [], { cwd, stdio: [...stdio], env: Object.fromEntries(own) })
    this.#child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      this.#text += chunk
    })
    this.#child.stdin.write('exec 2>&1\n')
  }

  /** Writes a command, and resolves with its output so far once `end` matches. */
  async until(command: string, end: RegExp): Promise<string> {
    this.#text = ''
    this.#child.stdin.write(`${command}\n`)
    await until(command, () => end.test(this.#text), COMMAND_MS)
    return this.#text
  }

  /** Runs a command that must exit with 0. */
  async run(command: string): Promise<string> {
    const text = await this.until(`${command}\nprintf '\\n%s %s\\n' exit-code-is $?`, /^exit-code-is \d+$/m)
    const [, output, code] = /^([\s\S]*)\nexit-code-is (\d+)\n$/.exec(text) ?? assert.fail(text)
    assert.equal(code, '0', `${command}\n${output}`)
    return output
  }

  /** Sends SIGTERM to the process whose id is in the variable PID, and ends the shell. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end('kill $PID 2>/dev/null; wait\n')
    if (this.#child.exitCode === null) await once(this.#child, 'exit')
  }
}
