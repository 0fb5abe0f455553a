// Several logs as one timeline: by revision, then time. Events without a revision stand at their time.
import type { LogEvent } from './line.ts'
import { compareEvents, type LogSource } from './source.ts'

type Queue = 'revised' | 'plain'

/**
 * Takes events out of the sources until no source has more now. Of events with a revision the event with the
 * smallest is next. The clocks of nodes differ, so the place of that event among the events without a
 * revision is the earliest time of the next revised events of all sources: a clock that is ahead delays
 * nothing.
 */
export function* merged(sources: readonly LogSource[]): Generator<LogEvent> {
  for (;;) {
    for (const source of sources) source.fill()
    const revised = firstOf(sources, 'revised')
    const plain = firstOf(sources, 'plain')
    const due = Math.min(...sources.map((source) => source.revised[0]?.at ?? Number.POSITIVE_INFINITY))
    const isPlain = plain !== undefined && plain.plain[0].at < due
    const queue = isPlain || revised === undefined ? 'plain' : 'revised'
    const source = queue === 'plain' ? plain : revised
    const event = source?.take(queue)
    if (event === undefined) return
    yield event
  }
}

function firstOf(sources: readonly LogSource[], queue: Queue): LogSource | undefined {
  let first: LogSource | undefined
  for (const source of sources) {
    if (source[queue].length === 0) continue
    if (first === undefined || compareEvents(source[queue][0], first[queue][0]) < 0) first = source
  }
  return first
}
