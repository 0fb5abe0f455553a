// docs/milestones.md is run: each command once, each line looked for in what the command printed, each document and
// heading resolved.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, test } from 'node:test'
import { signalGroup } from '../signals.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const WEEKS = 13
/** Promised: all commands together take five minutes. A busy machine gets more for each. */
const COMMAND_MS = 280_000

type Row = {
  readonly where: string
  readonly command: string
  readonly documents: readonly string[]
  readonly lines: readonly string[]
  readonly diagrams: readonly string[]
}

const spans = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, span]) => span)

/** The rows of the table under a heading with the word. */
function rowsOf(word: string): Row[] {
  const page = readFileSync(join(ROOT, 'docs/milestones.md'), 'utf8')
  const section = page.split(/^## /m).find((each) => each.split('\n')[0].includes(word))
  assert.ok(section, `a heading with ${word}`)
  const table = section.split('\n').filter((line) => /^\| \d+ \|/.test(line))
  return table.map((line, i) => {
    const [week, command, documents, sight] = line.slice(1, -1).split(' | ')
    assert.equal(week.trim(), String(i + 1), `${word}: the weeks in order`)
    const links = [...documents.matchAll(/\]\(([^)]+)\)/g)].map(([, target]) => target)
    return {
      where: `${word}, week ${i + 1}`,
      command: spans(command)[0],
      documents: links.filter((link) => link.includes('.md')),
      diagrams: links.filter((link) => link.endsWith('.svg')),
      lines: spans(sight),
    }
  })
}

const tables = ['DuckDB', 'tokens', 'secrets'].map(rowsOf)
const rows = tables.flat()

/** Weeks of which the plans ask for a diagram, by table. */
const DIAGRAMS = [
  { 2: 'one-node', 6: 'three-nodes', 12: 'as-built' },
  { 2: 'one-node', 6: 'three-nodes', 12: 'as-built' },
  { 2: 'one-node' },
]

test('three tables of 13 weeks; each row has a command of a checkout, a document and a line', () => {
  for (const [i, table] of tables.entries()) {
    assert.equal(table.length, WEEKS)
    for (const [week, name] of Object.entries(DIAGRAMS[i])) {
      const { where, diagrams } = table[Number(week) - 1]
      assert.ok(diagrams.includes(`diagrams/${name}.svg`), `${where}: ${name}`)
    }
  }
  for (const { where, command, documents, lines, diagrams } of rows) {
    assert.match(command, /^(npm run demo( -- \w+)?|npm test -- .+\.test\.ts|bin\/coffer .+)$/, where)
    assert.ok(documents.length > 0 && lines.length > 0, where)
    for (const diagram of diagrams) assert.ok(existsSync(join(ROOT, 'docs', diagram)), diagram)
  }
})

test('each document has its heading, with text below', () => {
  const slug = (heading: string): string =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-')
  for (const { where, documents } of rows) {
    for (const document of documents) {
      const [file, anchor] = document.split('#')
      const parts = readFileSync(join(ROOT, 'docs', file), 'utf8').split(/^#+ /m)
      const part = parts.find((each) => slug(each.split('\n')[0]) === anchor)
      assert.ok(part && part.split(/\s+/).length > 20, `${where}: ${document}`)
    }
  }
})

/** Runs a command of a checkout, which must exit with 0. Returns its output. */
async function run(command: string): Promise<string> {
  const own = Object.entries(process.env).filter(([name]) => !/^(COFFER_|NODE_|FORCE_COLOR|npm_)/.test(name))
  const child = spawn('sh', ['-c', `exec ${command} 2>&1`], {
    cwd: ROOT,
    env: Object.fromEntries(own),
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  })
  const timer = setTimeout(() => child.pid !== undefined && signalGroup(child.pid, 'SIGTERM'), COMMAND_MS)
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'close')])
  clearTimeout(timer)
  assert.equal(code, 0, `${command}\n${output}`)
  return output
}

describe('the commands', () => {
  for (const command of new Set(rows.map((row) => row.command))) {
    test(command, async () => {
      const output = await run(command)
      for (const { where, lines } of rows.filter((row) => row.command === command))
        for (const line of lines) assert.ok(output.includes(line), `${where}: ${line}\n${output}`)
    })
  }
})
