// Events as lines for people: aligned columns, colours by kind on a terminal.
import type { Writable } from 'node:stream'
import { styleText } from 'node:util'
import type { LogEvent } from './line.ts'

type Style = 'red' | 'yellow' | 'green' | 'cyan' | 'magenta' | 'blue' | 'dim'

type EventKind = 'fault' | 'refused' | 'ledger' | 'epoch' | 'secret' | 'token' | 'node' | 'replica' | 'other'

/** The first entry that begins the name of an event gives the kind. */
const KINDS: readonly (readonly [prefix: string, kind: EventKind])[] = [
  ['ledger.lost', 'fault'],
  ['request.replayed', 'other'],
  ['request', 'refused'],
  ['ledger', 'ledger'],
  ['epoch', 'epoch'],
  ['secret', 'secret'],
  ['tokens', 'token'],
  ['node', 'node'],
  ['replica', 'replica'],
]

const STYLES: Readonly<Record<EventKind, Style | undefined>> = {
  fault: 'red',
  refused: 'yellow',
  ledger: 'blue',
  epoch: 'magenta',
  secret: 'cyan',
  token: 'green',
  node: 'blue',
  replica: 'dim',
  other: undefined,
}

/** Characters of the longest name of an event. */
const EVENT_WIDTH = 18

/** Names of events of which the cell is kept. */
const MOST_CELLS = 200

/**
 * Formats events one after the other: the column of nodes grows with the names. Colours are for a terminal
 * alone, and not with NO_COLOR.
 */
export function lineFormatter(stream: Writable = process.stdout): (event: LogEvent) => string {
  let nodeWidth = 2
  let revisionWidth = 4
  const names = new Map<string, string>()
  const nameCell = (event: string): string => {
    const known = names.get(event)
    if (known !== undefined) return known
    const cell = coloured(event, shown(event).padEnd(EVENT_WIDTH), stream)
    if (names.size < MOST_CELLS) names.set(event, cell)
    return cell
  }
  return ({ time, node, event, revision, fields }) => {
    const name = shown(node)
    const number = String(revision ?? '')
    nodeWidth = Math.max(nodeWidth, name.length)
    revisionWidth = Math.max(revisionWidth, number.length)
    const begin = `${shown(time).padEnd(24)}  ${name.padEnd(nodeWidth)}  ${number.padStart(revisionWidth)}`
    return `${begin}  ${nameCell(event)}  ${detailsOf(fields)}`.trimEnd()
  }
}

/** Members with a column of their own. */
const COLUMNS: ReadonlySet<string> = new Set(['time', 'node', 'seq', 'event', 'revision'])

/** The other members of an event as `name=value`. */
export function detailsOf(fields: LogEvent['fields']): string {
  let details = ''
  for (const name in fields) {
    if (COLUMNS.has(name)) continue
    const value = fields[name]
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    details += `${details === '' ? '' : ' '}${shown(name)}=${shown(text)}`
  }
  return details
}

/** Also of names that are not known here. */
export function kindOf(event: string): EventKind {
  return KINDS.find(([prefix]) => event.startsWith(prefix))?.[1] ?? 'other'
}

function coloured(event: string, text: string, stream: Writable): string {
  const style = STYLES[kindOf(event)]
  return style === undefined ? text : styleText(style, text, { stream })
}

/** A plain word as it is; other texts as JSON in ASCII: a text moves no cursor and hides nothing. */
function shown(text: string): string {
  if (/^[\w.:@/+,-]+$/.test(text)) return text
  const quoted = /^[\w.:@/+,[\]{}" -]+$/.test(text) && /^[[{]/.test(text) ? text : JSON.stringify(text)
  return quoted.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
