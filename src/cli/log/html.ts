// The timeline as a page: a file without server, network and other files.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { OperatorError } from '../../errors.ts'
import { checkOutput, discardOnSignals, openOutput, WITH_VALUES } from '../terminal/output.ts'
import { Activity } from './activity.ts'
import { findLogs } from './files.ts'
import { ALL_EVENTS, type EventFilter, isShown } from './filter.ts'
import { History } from './history.ts'
import type { LogEvent } from './line.ts'
import { merged } from './merge.ts'
import { type Damage, LogSource } from './source.ts'
import { duration, type Facts, headlineOf, momentsOf } from './story.ts'
import { detailsOf, kindOf } from './text.ts'

/** Browsers open a page with more events slowly. */
const MOST_EVENTS = 500_000

/** The parts of the page's script: a part uses the parts before. */
const SCRIPTS = ['view.js', 'lanes.js', 'overview.js', 'pointer.js', 'list.js', 'page.js']

type TimelineOptions = {
  /** Event logs, data directories, directories of vaults. */
  readonly paths: readonly string[]
  /** `-` is stdout. */
  readonly out: string
  /** Whether a file at `out` may be replaced. */
  readonly force?: boolean
  /** Selects the listed events; faults and leaders are known from all events. */
  readonly filter?: EventFilter
  readonly damaged?: (damage: Damage) => void
  /** More events are refused. */
  readonly most?: number
}

/** Writes the page, mode 0600: names of secrets may be in it. Throws OperatorError, UsageError. */
export async function writeTimeline(options: TimelineOptions): Promise<{ readonly events: number }> {
  const {
    paths,
    out,
    force = false,
    filter = ALL_EVENTS,
    damaged = () => undefined,
    most = MOST_EVENTS,
  } = options
  checkOutput(out, { file: '', force })
  const collector = new Collector(filter, most)
  const keep = (event: LogEvent): boolean => {
    collector.history.add(event)
    return isShown(filter, event)
  }
  const sources = findLogs(paths).map((place) => new LogSource({ place, keep, follow: false, damaged }))
  try {
    for (const event of merged(sources)) collector.add(event)
  } finally {
    for (const source of sources) source.close()
  }
  const output = openOutput(out, WITH_VALUES)
  const undo = discardOnSignals(output)
  try {
    for (const part of pageOf(collector)) await output.write(Buffer.from(part))
    await output.commit()
  } finally {
    undo()
    output.discard()
  }
  return { events: collector.count }
}

/** Numbers for repeated texts. */
class Dictionary {
  readonly texts: string[] = []
  readonly #numbers = new Map<string, number>()

  numberOf(text: string): number {
    const known = this.#numbers.get(text)
    if (known !== undefined) return known
    this.#numbers.set(text, this.texts.length)
    return this.texts.push(text) - 1
  }
}

/** The shown events, as text: [milliseconds, node, event, number, revision, owner, details]. */
class Collector {
  readonly history = new History()
  readonly activity = new Activity()
  readonly nodes = new Dictionary()
  readonly names = new Dictionary()
  readonly owners = new Dictionary()
  readonly rows: string[] = []
  readonly #filter: EventFilter
  readonly #most: number
  count = 0
  #part: string[] = []
  #from = Number.POSITIVE_INFINITY
  #to = Number.NEGATIVE_INFINITY

  constructor(filter: EventFilter, most: number) {
    this.#filter = filter
    this.#most = most
  }

  /** Throws OperatorError. */
  add(event: LogEvent): void {
    if (++this.count > this.#most)
      throw new OperatorError(`there are more than ${this.#most} events, too many for a page`, {
        hint: 'choose events with --since, --until, --event or --owner',
      })
    const { at, node, event: name, seq, revision = 0, fields } = event
    this.#from = Math.min(this.#from, at)
    this.#to = Math.max(this.#to, at)
    this.activity.add(event)
    const owner = typeof fields.owner === 'string' ? this.owners.numberOf(fields.owner) : -1
    const row = [at, this.nodes.numberOf(node), this.names.numberOf(name), seq, revision, owner]
    this.#part.push(jsonOf([...row, detailsOf(fields)]))
    if (this.#part.length >= 1000) this.#flush()
  }

  /** Throws OperatorError. */
  facts(): Facts {
    if (this.count === 0)
      throw new OperatorError('there is no event to show', {
        hint: 'name logs with events, or leave out --since, --until, --event and --owner',
      })
    this.#flush()
    const { history, activity } = this
    const [nodes, leads, epochs] = [history.nodes(), history.leads(), history.epochs()]
    const { from, to } = this.#filter
    const shown = (at: number): boolean => at >= from && at < to
    const ends = nodes.flatMap(({ runs }) => runs.flatMap((run) => [run.from, run.to])).filter(shown)
    const range = { from: Math.min(this.#from, ...ends), to: Math.max(this.#to, ...ends) }
    return { nodes, leads, epochs: epochs.filter(({ at }) => shown(at)), activity, ...range }
  }

  #flush(): void {
    if (this.#part.length > 0) this.rows.push(this.#part.join(',\n'))
    this.#part = []
  }
}

/** The page in parts. */
function* pageOf(collector: Collector): Generator<string> {
  const facts = collector.facts()
  const style = pageFile('page.css')
  const script = SCRIPTS.map(moduleText).join('\n')
  const policy = `default-src 'none'; style-src '${hashOf(style)}'; script-src '${hashOf(script)}'`
  const [beforePolicy, beforeStyle, beforeData, beforeScript, end] = pageFile('page.html').split(
    /POLICY|\/\* STYLE \*\/|"DATA"|\/\* SCRIPT \*\//,
  )
  yield `${beforePolicy}${policy}; base-uri 'none'; form-action 'none'${beforeStyle}${style}${beforeData}`
  yield '{"events":[\n'
  for (const [i, row] of collector.rows.entries()) yield i === 0 ? row : `,\n${row}`
  yield `\n],${jsonOf(summaryOf(facts, collector)).slice(1)}`
  yield `${beforeScript}${script}${end}`
}

/** All but the events. */
function summaryOf(facts: Facts, { nodes: nodeNames, names, owners }: Collector): object {
  const { nodes, leads, epochs, activity, from, to } = facts
  return {
    from,
    to,
    duration: duration(to - from),
    revision: Math.max(...nodes.map(({ revision }) => revision)),
    headline: headlineOf(facts),
    story: momentsOf(facts),
    nodes,
    leads: leads.map((lead) => ({ ...lead, to: Math.min(lead.to, to) })),
    epochs,
    totals: {
      issued: activity.total('tokens.issued'),
      resolved: activity.total('tokens.resolved'),
      written: activity.total('secret.created') + activity.total('secret.updated'),
      refused: activity.refusals,
    },
    nodeNames: nodeNames.texts,
    names: names.texts.map((name) => ({ name, kind: kindOf(name) })),
    owners: owners.texts,
  }
}

/** JSON without `<`: no text ends the script element. */
function jsonOf(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c')
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}

function pageFile(name: string): string {
  return readFileSync(join(import.meta.dirname, 'page', name), 'utf8')
}

/** A module of the page without imports and exports: all modules are a single script. */
function moduleText(name: string): string {
  return pageFile(name)
    .replace(/^import [^']*'.*'$/gm, '')
    .replace(/^export /gm, '')
}
