// A file through three nodes, of which one is killed when half of the new file is written: the same bytes.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createWriteStream, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { coffer, fine, until } from '../cli/cli.ts'
import { Cluster, type ClusterNode } from './cluster.ts'

/** As many values. */
const ROWS = 320_000
/** Written before the kill. The command keeps what is in its requests: four times 20,000 rows. */
const BEFORE = 300_000

describe('files and three nodes', () => {
  let cluster: Cluster
  let env: Readonly<Record<string, string>>

  before(async () => {
    cluster = await Cluster.start()
    env = { COFFER_URL: cluster.nodes.map(({ url }) => url).join(), COFFER_KEY: cluster.keys.a }
  })
  after(() => cluster[Symbol.asyncDispose]())

  /**
   * The new content of a file that comes through a pipe. The node that is asked first is killed when half of that
   * content is written.
   */
  async function killedAtHalf(operation: string, content: string, half: number): Promise<string> {
    const dir = cluster.folder.file(operation)
    mkdirSync(dir)
    const pipe = cluster.folder.file(`${operation}-pipe.csv`)
    assert.equal(spawnSync('mkfifo', [pipe]).status, 0)
    const out = join(dir, 'out.csv')
    const command = coffer([operation, pipe, '--column', 'ssn', '-o', out, '--json'], { env, ms: 60_000 })
    const [first, ...others] = cluster.nodes
    const before = [first, ...others].map(answersOf)
    const stream = createWriteStream(pipe)
    stream.on('error', () => undefined) // the command may end before it has read all
    const lines = content.split(/(?<=\n)/)
    try {
      stream.write(lines.slice(0, BEFORE).join(''))
      await until(
        'half of the new file',
        () => readdirSync(dir).some((name) => statSync(join(dir, name)).size >= half),
        20_000,
      )
      assert.ok(answersOf(first) > before[0], 'the node to be killed has answered')
      await first.kill()
      stream.write(lines.slice(BEFORE).join(''))
    } finally {
      stream.end()
    }
    const { code, stdout, stderr } = await command
    assert.equal(code, 0, stderr)
    assert.ok(
      others.some((node, i) => answersOf(node) > before[i + 1]),
      'another node has answered',
    )
    const { values, replaced, not_found } = JSON.parse(stdout)
    assert.deepEqual([values, replaced, not_found], [ROWS, ROWS, 0])
    assert.deepEqual(readdirSync(dir), ['out.csv'])
    return readFileSync(out, 'utf8')
  }

  test('a node that dies on the way is not an error: tokens and values are the same bytes', async () => {
    const rows = Array.from({ length: ROWS }, (_, i) => `${i},${500_000_000 + i}\r\n`)
    const content = `n,ssn\r\n${rows.join('')}`
    const tokens = await killedAtHalf(
      'tokenize',
      content,
      (ROWS / 2) * '100000,tok_1_\r\n'.length + (ROWS / 2) * 32,
    )
    await cluster.startAll()
    const again = await fine(['tokenize', '-', '--format', 'csv', '--column', 'ssn'], { env, input: content })
    assert.ok(`${again}\r\n` === tokens, 'as with three nodes that live')
    const values = await killedAtHalf('detokenize', tokens, content.length / 2)
    assert.ok(values === content)
  })
})

/** Requests for tokens or values, by the event log. */
function answersOf(node: ClusterNode): number {
  return node.events().filter(({ event }) => /^tokens\./.test(String(event))).length
}
