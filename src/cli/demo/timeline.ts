// The end of a demo: the event logs of its nodes as a timeline.
import { OperatorError } from '../../errors.ts'
import { findLogs } from '../log/files.ts'
import type { LogEvent } from '../log/line.ts'
import { merged } from '../log/merge.ts'
import { type Damage, LogSource } from '../log/source.ts'
import { lineFormatter } from '../log/text.ts'
import { counted, print } from '../terminal/terminal.ts'
import { check, heading } from './story.ts'

/** The largest number of printed events. */
const LINES = 40
/** Events of requests come by hundreds; some members of events say little in a demo. */
const ROUTINE = /^(?:tokens\.|replica\.applied|secret\.read|key\.shown|requests?\.)/
const TECHNICAL: ReadonlySet<string> = new Set(['request', 'key_id', 'client'])

/** Prints the last events. Where there are more, events of single requests are left out. */
export function printTimeline(dir: string): void {
  const { events, damages } = readEvents(dir)
  check(damages.length === 0, `every line of an event log is whole (${damages.join(', ')})`)
  check(events.length > 0, 'the nodes have written events')
  printLast(events)
}

/** After a failure, while nodes may run and may have written nothing yet. */
export function printTimelineUntilNow(dir: string): void {
  try {
    const { events } = readEvents(dir)
    heading('The event logs until the failure')
    printLast(events)
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error // no node has an event log yet
  }
}

function printLast(events: readonly LogEvent[]): void {
  const telling = events.length <= LINES ? events : events.filter(({ event }) => !ROUTINE.test(event))
  const shown = telling.slice(-LINES)
  const format = lineFormatter()
  for (const event of shown) print(`  ${format(withoutTechnical(event))}`)
  const rest = events.length - shown.length
  const left = rest === 0 ? '' : `; ${rest} of them, of single requests or earlier, are not shown`
  const nodes = new Set(events.map(({ node }) => node)).size
  print(`\n${counted(events.length, 'event')} of ${counted(nodes, 'node')}${left}.`)
}

/** Prints a node's last event of a name. Returns false where there is no such event yet. */
export function printEvent(dir: string, node: string, name: string): boolean {
  const event = readEvents(dir).events.findLast((each) => each.node === node && each.event === name)
  if (event) print(`  ${lineFormatter()(withoutTechnical(event))}`)
  return event !== undefined
}

type Events = {
  readonly events: readonly LogEvent[]
  /** Damaged lines; while a node runs, a line can be half written. */
  readonly damages: readonly string[]
}

function readEvents(dir: string): Events {
  const damages: string[] = []
  const damaged = ({ file, line, reason }: Damage): void => {
    damages.push(`${file}:${line}: ${reason}`)
  }
  const sources = findLogs([dir]).map(
    (place) => new LogSource({ place, keep: () => true, follow: false, damaged }),
  )
  try {
    return { events: [...merged(sources)], damages }
  } finally {
    for (const source of sources) source.close()
  }
}

function withoutTechnical(event: LogEvent): LogEvent {
  const fields = Object.entries(event.fields).filter(([name]) => !TECHNICAL.has(name))
  return { ...event, fields: Object.fromEntries(fields) }
}
