// Draws the diagrams: docs/diagrams/NAME.dot becomes NAME.svg beside the source, in light and dark. `npm run diagrams`
// writes all of them; test/diagrams.test.ts draws them again and checks that every name and arrow is true.
//
// A source says what a part is by `class`, and how the part is known by attributes that Graphviz ignores: `path` of
// a file in a vault's directory, `proof` of the form `FILE: TEXT`, where TEXT stands in FILE.
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Graphviz } from '@hpcc-js/wasm-graphviz'

const DIRECTORY = join(import.meta.dirname, '../docs/diagrams')

/** Colours by name of a CSS variable: the first for light pages, the second for dark pages. */
const COLOURS = {
  page: ['#ffffff', '#0f141b'],
  frame: ['#d9e0e8', '#2b3542'],
  ink: ['#1b2430', '#e6edf3'],
  dim: ['#5c6875', '#9aa7b5'],
  line: ['#66758a', '#8796a8'],
  'process-fill': ['#f1f5fd', '#151f30'],
  'process-line': ['#5b7fc7', '#5577b8'],
  'machine-fill': ['#fafbfc', '#131922'],
  'machine-line': ['#d9e0e8', '#2b3542'],
  'room-fill': ['#ffffff', '#1c2a40'],
  'room-line': ['#a9bbdd', '#3d547c'],
  'truth-fill': ['#fdf3dc', '#33280f'],
  'truth-line': ['#c48a1a', '#c9973a'],
  'other-fill': ['#f6f7f9', '#1a2029'],
  'other-line': ['#aab4c0', '#566373'],
  'outside-fill': ['#eaf6ee', '#13291c'],
  'outside-line': ['#4b9a68', '#4f9d6d'],
  'etcd-fill': ['#fbeeee', '#321a1c'],
  'etcd-line': ['#c06468', '#bb6a6e'],
} as const

const KINDS = ['process', 'machine', 'room', 'truth', 'other', 'outside', 'etcd'] as const

/** Graphviz writes the colour `gray40` so: the source's word for small print in the label of a cluster. */
const DIM = '#666666'

function variables(scheme: 0 | 1): string {
  return Object.entries(COLOURS)
    .map(([name, both]) => `--${name}:${both[scheme]}`)
    .join(';')
}

const STYLE = `
svg { ${variables(0)} }
@media (prefers-color-scheme: dark) { svg { ${variables(1)} } }
text { fill: var(--ink); font-family: Helvetica, Arial, 'Liberation Sans', sans-serif }
text[fill="${DIM}"] { fill: var(--dim) }
.page { fill: var(--page); stroke: var(--frame) }
.node > text:first-of-type { font-weight: bold }
.node > text ~ text { fill: var(--dim); font-size: 11px }
${KINDS.map((kind) => `.${kind} > path, .${kind} > polygon { fill: var(--${kind}-fill); stroke: var(--${kind}-line) }`).join('\n')}
.other > path { stroke-dasharray: 4 3 }
.etcd > path, .process > path, .truth > path { stroke-width: 1.4 }
.edge > path { fill: none; stroke: var(--line); stroke-width: 1.2 }
.edge > polygon { fill: var(--line); stroke: var(--line) }
.edge > text { fill: var(--dim) }
.follow > path { stroke: var(--outside-line) } .follow > polygon { fill: var(--outside-line); stroke: var(--outside-line) }
.write > path { stroke: var(--truth-line) } .write > polygon { fill: var(--truth-line); stroke: var(--truth-line) }
.raft > path { stroke: var(--etcd-line) } .raft > polygon { fill: var(--etcd-line); stroke: var(--etcd-line) }
`

/** A node, cluster or edge of a source; what the source does not say is empty. `name` of an edge is empty. */
export type Part = {
  readonly name: string
  readonly class: string
  readonly label: string
  readonly path: string
  readonly proof: string
}

/** `from` and `to` are names of nodes, as the arrow points. */
export type Arrow = Part & { readonly from: string; readonly to: string }

export type Diagram = {
  readonly name: string
  readonly title: string
  /** The picture in words. */
  readonly told: string
  readonly clusters: readonly Part[]
  readonly nodes: readonly Part[]
  readonly arrows: readonly Arrow[]
  readonly svg: string
  readonly svgFile: string
}

/** Throws where Graphviz cannot read a source. */
export async function diagrams(): Promise<readonly Diagram[]> {
  const graphviz = await Graphviz.load()
  return globSync('*.dot', { cwd: DIRECTORY })
    .sort()
    .map((file) => {
      const source = readFileSync(join(DIRECTORY, file), 'utf8')
      const name = basename(file, '.dot')
      const read = partsOf(JSON.parse(graphviz.layout(source, 'dot_json', 'dot')))
      const svg = styled(graphviz.layout(source, 'svg', 'dot'), read)
      return { name, ...read, svg, svgFile: join(DIRECTORY, `${name}.svg`) }
    })
}

/** What Graphviz tells of a source as JSON; only a cluster or a group has `nodes`. */
type Json = Words & {
  readonly objects: readonly (Partial<Part> & { readonly nodes?: readonly number[] })[]
  /** `tail` and `head` are places in `objects`. */
  readonly edges: readonly (Partial<Part> & {
    readonly tail: number
    readonly head: number
    readonly dir?: string
  })[]
}

type Words = { readonly title: string; readonly told: string }

function partsOf({ title, told, objects, edges }: Json) {
  const nameAt = (place: number): string => objects[place].name ?? ''
  return {
    title,
    told,
    clusters: objects.filter(({ name }) => name?.startsWith('cluster')).map(whole),
    nodes: objects
      .filter(({ nodes, name }) => nodes === undefined && !name?.startsWith('cluster'))
      .map(whole),
    arrows: edges.map((edge) => {
      const [from, to] = edge.dir === 'back' ? [edge.head, edge.tail] : [edge.tail, edge.head]
      return { ...whole(edge), from: nameAt(from), to: nameAt(to) }
    }),
  }
}

function whole({ name = '', class: kind = '', label = '', path = '', proof = '' }: Partial<Part>): Part {
  return { name, class: kind, label, path, proof }
}

/** The picture without its prologue and its hints on hovering, with the style, and with words for readers of screens. */
function styled(svg: string, { title, told }: Words): string {
  const body = svg
    .replace(/^[\s\S]*?(?=<svg)/, '')
    .replace(/<!--[\s\S]*?-->\n?/g, '')
    .replace(/<title>[\s\S]*?<\/title>\n?/g, '')
    .replace(/(width|height)="(\d+)pt"/g, '$1="$2"')
    .replace(/ font-family="[^"]*"/g, '')
  const [width, height] = [...body.matchAll(/(?:width|height)="(\d+)"/g)].map(([, size]) => Number(size))
  const words = `<title>${title}</title>\n<desc>${told}</desc>\n<style>${STYLE}</style>
<rect class="page" x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10"/>\n`
  return body.replace(/(<svg[^>]*)>\n/, (_, head) => `${head} role="img">\n${words}`)
}

if (import.meta.main) for (const { svg, svgFile } of await diagrams()) writeFileSync(svgFile, svg)
