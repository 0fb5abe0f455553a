// The diagrams are drawn again, and every name and arrow in them is true: rooms, files of a running node, connections
// in the code.
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { test } from 'node:test'
import { readConfig } from '../src/node/config.ts'
import { memberPidFile } from '../src/node/member-directory.ts'
import { memberFlags } from '../src/node/member-flags.ts'
import { diagrams, type Part } from '../tools/diagrams.ts'
import { Folder, init, NodeProcess } from './cli/cli.ts'
import { importsOf, readRooms, roomOf } from './rooms.ts'

const drawn = await diagrams()
const { mayImport } = readRooms()
const textOf = (file: string): string => readFileSync(file, 'utf8')
const code = globSync('src/**/*.ts').filter((file) => !file.endsWith('.test.ts'))

/** The first line of a label, without the slash of a room. */
const nameOf = ({ label }: Part): string => label.split('\\n')[0].replace(/\/$/, '')

/** A part of a diagram with words for a message. */
type Told = { readonly what: string; readonly part: Part }

const parts: readonly Told[] = drawn.flatMap(({ name, nodes, clusters }) =>
  [...nodes, ...clusters].map((part) => ({ what: `${name}: ${part.name}`, part })),
)

const rooms = parts.filter(({ part }) => part.class === 'room')
const files = parts.filter(({ part }) => Boolean(part.path))

test('each picture is what its source draws', () => {
  assert.deepEqual(
    drawn.map(({ name }) => name),
    ['as-built', 'one-node', 'three-nodes'],
  )
  for (const { name, svg, svgFile } of drawn)
    assert.equal(textOf(svgFile), svg, `docs/diagrams/${name}.svg: \`npm run diagrams\` draws it again`)
  assert.deepEqual(globSync('docs/diagrams/*.svg').length, drawn.length)
})

test('each picture is shown in a document, with words for readers who do not see it', () => {
  const pages = ['README.md', ...globSync('docs/*.md')].map(textOf).join('\n')
  for (const { name, title, told, svg } of drawn) {
    assert.match(pages, new RegExp(`!\\[[^\\]]{10,}\\]\\((docs/)?diagrams/${name}\\.svg\\)`), name)
    assert.ok(svg.includes(`<title>${title}</title>`) && told.length > 40, name)
    assert.match(svg, /prefers-color-scheme: dark/, name)
  }
})

test('each room is a folder of src/, and the picture of all has each room', () => {
  for (const { what, part } of rooms) {
    assert.match(part.label, /^[a-z]+\/\\n/, what)
    assert.ok(mayImport.has(nameOf(part)), `${what}: ${nameOf(part)}`)
  }
  const all = rooms.filter(({ what }) => what.startsWith('as-built')).map(({ part }) => nameOf(part))
  assert.deepEqual(all.sort(), [...mayImport.keys()].sort())
})

test('what is no room has a proof in the code', () => {
  for (const { what, part } of parts) {
    assert.match(part.class, /^(room|process|machine|outside|etcd|truth|other)$/, what)
    if (part.class !== 'room' && !part.path) assert.ok(part.proof || part.label === '', what)
    if (part.proof) assertProof(what, part.proof)
  }
})

test('each arrow is an import that is made and allowed, or a connection in the code', () => {
  const imports = new Set(
    code.flatMap((file) => importsOf(file).map((target) => `${roomOf(file)} -> ${roomOf(target)}`)),
  )
  for (const { name, nodes, arrows } of drawn) {
    const node = (id: string): Part => nodes.find((each) => each.name === id) ?? assert.fail(id)
    for (const arrow of arrows) {
      const what = `${name}: ${arrow.from} -> ${arrow.to}`
      const [from, to] = [node(arrow.from), node(arrow.to)]
      if (!arrow.class.split(' ').includes('import')) {
        assertProof(what, arrow.proof)
        const ends = [from, to].filter((each) => each.class === 'room').map(nameOf)
        assert.ok(
          ends.length === 0 || ends.includes(roomOf(arrow.proof)),
          `${what}: the proof of another room`,
        )
      } else {
        const pair = `${nameOf(from)} -> ${nameOf(to)}`
        assert.ok(imports.has(pair), `${what}: no file of ${pair} imports`)
        assert.ok(mayImport.get(nameOf(from))?.includes(nameOf(to)), `${what}: not allowed`)
      }
    }
  }
})

/** Asserts that a proof `FILE: TEXT` holds. */
function assertProof(what: string, proof: string): void {
  const [, file, text] = /^(\S+): (.+)$/.exec(proof) ?? assert.fail(`${what} has no proof`)
  assert.ok(existsSync(file) && textOf(file).includes(text), `${what}: ${file} has no ${text}`)
}

test('each file is there when a node runs, or is where the code puts the files of a member', async () => {
  using folder = new Folder()
  await init(folder.file('one'), '--port', '0')
  await init(folder.file('three'), '--nodes', '3')
  await using _node = await NodeProcess.start(folder.file('one', 'n1.yaml'))
  const there = new Set(globSync('one/**', { cwd: folder.path }).map((file) => relative('one', file)))
  const ports = new Map<string, string>()
  for (const name of ['n1', 'n2', 'n3']) {
    const config = readConfig(folder.file('three', `${name}.yaml`))
    const flags = memberFlags(config, '3.7.3', 'new')
    const of = (flag: string): string =>
      flags.find((each) => each.startsWith(`--${flag}=`))?.split('=')[1] ?? assert.fail(flag)
    for (const file of [of('data-dir'), memberPidFile(config), config.file])
      there.add(relative(folder.file('three'), file))
    // Each node has a replica, as the running one.
    if (there.has('n1/replica')) there.add(`${name}/replica`)
    const urls = [config.listen.port, of('listen-client-urls'), of('listen-peer-urls')]
    ports.set(`cluster_${name}`, urls.map((url) => String(url).split(':').at(-1)).join(', '))
  }
  assert.ok(files.length > 15)
  for (const { what, part } of files) assert.ok(there.has(part.path), `${what}: ${part.path}`)
  for (const { what, part } of files.filter(({ part }) => /truth|other/.test(part.class)))
    assert.equal(nameOf(part), part.path, `${what} is called by its path`)
  const machines = parts.filter(({ part }) => part.label.includes('ports'))
  assert.equal(machines.length, 3)
  for (const { what, part } of machines)
    assert.ok(part.label.includes(`ports ${ports.get(part.name)}<`), `${what}: ${ports.get(part.name)}`)
})
