// README.md is followed to the letter by a shell in an empty directory: each command, each output. Only ports and
// what differs from run to run are put in: the address and the key that were printed, and tokens.
import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { test } from 'node:test'
import { Folder, until } from '../cli/cli.ts'
import { blocks, examples, Names } from '../console.ts'
import { freeCluster } from './cluster.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const COMMAND_MS = 60_000

/** A shell of which stdout and stderr are one stream, as on a terminal. */
class Shell implements AsyncDisposable {
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

/** Lines without blanks at their ends, columns two blanks apart. */
const plain = (text: string): string => text.trim().replace(/ +$/gm, '').replace(/ {2,}/g, '  ')

test('README.md: the first token, then three nodes, a file, SQL and kill -9, as they stand there', async () => {
  using folder = new Folder()
  symlinkSync(join(ROOT, 'bin'), folder.file('bin'))
  const first = await freeCluster()
  const names = new Names()
  let seen = { url: '', key: '' }
  const look = (text: string): void => {
    const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(text) ?? [seen.url]
    const [key] = /cof_[0-9a-z]{20,}/.exec(text) ?? [seen.key]
    seen = { url, key }
  }
  const ported = (text: string): string =>
    text
      .replace(/127\.0\.0\.1:82([012])0/g, (_, i) => `127.0.0.1:${first + 10 * Number(i)}`)
      .replace('--nodes 3', `--nodes 3 --port ${first}`)
  const [begin, ...rest] = blocks('README.md', 'console').map(examples)
  assert.ok(rest.length === 2 && rest.flat().length >= 10)
  await using terminal = new Shell(folder.path)
  const [dev] = begin
  const printed = await terminal.until(`${dev.command} & PID=$!`, /^API key +cof_.*\n/m)
  names.match(plain(dev.output), plain(printed), dev.command)
  look(printed)
  await using other = new Shell(folder.path)
  try {
    for (const { command, output } of rest.flat()) {
      const filled = ported(command).replace('http://127.0.0.1:…', seen.url).replace('cof_…', seen.key)
      const answer = await other.run(names.fill(filled))
      names.match(plain(ported(output)), plain(answer), command)
      look(answer)
    }
  } finally {
    await other.run('bin/coffer cluster stop ./vault || true')
  }
})
