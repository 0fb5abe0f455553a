// The end of a demo: the event logs of its nodes as one timeline.
import { findLogs } from '../log/files.ts'
import type { LogEvent } from '../log/line.ts'
import { merged } from '../log/merge.ts'
import { type Damage, LogSource } from '../log/source.ts'
import { lineFormatter } from '../log/text.ts'
import { counted, print } from '../terminal/terminal.ts'
import { check } from './story.ts'

/** The most events that are printed. */
const LINES = 40
/** Events of requests that come by hundreds, and members of events that say little in a demo. */
const ROUTINE = /^(?:tokens\.|replica\.applied|secret\.read|key\.shown|requests?\.)/
const TECHNICAL: ReadonlySet<string> = new Set(['request', 'key_id', 'client'])

/** Prints the last events. Where there are more, those of single requests are left out. */
export function printTimeline(dir: string): void {
  const { events, logs } = readEvents(dir)
  check(events.length > 0, 'the nodes have written events')
  const telling = events.length <= LINES ? events : events.filter(({ event }) => !ROUTINE.test(event))
  const shown = telling.slice(-LINES)
  const format = lineFormatter()
  for (const event of shown) print(`  ${format(withoutTechnical(event))}`)
  const rest = events.length - shown.length
  const left = rest === 0 ? '' : `; ${rest} of them, of single requests or earlier, are not shown`
  print(`\n${counted(events.length, 'event')} of ${counted(logs, 'node')}${left}.`)
}

/** `logs`: the number of event logs. */
function readEvents(dir: string): { readonly events: readonly LogEvent[]; readonly logs: number } {
  const places = findLogs([dir])
  const damages: string[] = []
  const damaged = ({ file, line, reason }: Damage): void => {
    damages.push(`${file}:${line}: ${reason}`)
  }
  const sources = places.map((place) => new LogSource({ place, keep: () => true, follow: false, damaged }))
  try {
    const events = [...merged(sources)]
    check(damages.length === 0, `every line of an event log is whole (${damages.join(', ')})`)
    return { events, logs: places.length }
  } finally {
    for (const source of sources) source.close()
  }
}

function withoutTechnical(event: LogEvent): LogEvent {
  const fields = Object.entries(event.fields).filter(([name]) => !TECHNICAL.has(name))
  return { ...event, fields: Object.fromEntries(fields) }
}
