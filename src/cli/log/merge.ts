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
  for (const event of mergedInTurns(sources)) if (event !== undefined) yield event
}

/** As `merged`; undefined where a part of the logs has been read, and the next event is not known yet. */
export function* mergedInTurns(sources: readonly LogSource[]): Generator<LogEvent | undefined> {
  for (;;) {
    let due = Number.POSITIVE_INFINITY
    for (const source of sources) {
      while (!source.fill()) yield undefined
      due = Math.min(due, source.revised.first?.at ?? due)
    }
    const plain = firstOf(sources, 'plain')
    const revised = firstOf(sources, 'revised')
    const isPlain = plain !== undefined && (plain.event.at < due || revised === undefined)
    const next = isPlain ? plain : revised
    if (next === undefined) return
    next.source.take(isPlain ? 'plain' : 'revised')
    yield next.event
  }
}

type First = { readonly source: LogSource; readonly event: LogEvent }

function firstOf(sources: readonly LogSource[], queue: Queue): First | undefined {
  let first: First | undefined
  for (const source of sources) {
    const event = source[queue].first
    if (event && (first === undefined || compareEvents(event, first.event) < 0)) first = { source, event }
  }
  return first
}
