// Which events of the logs are shown.
import { UsageError } from '../../errors.ts'
import { EVENT_NAMES } from '../../events/event.ts'
import { instantOf } from '../terminal/instant.ts'
import type { LogEvent } from './line.ts'

/** Instants are milliseconds since 1970: an event is in the window when `from` <= at < `to`. */
export type EventFilter = {
  readonly from: number
  readonly to: number
  readonly owner: string | undefined
  readonly names: ReadonlySet<string> | undefined
}

export const ALL_EVENTS: EventFilter = {
  from: Number.NEGATIVE_INFINITY,
  to: Number.POSITIVE_INFINITY,
  owner: undefined,
  names: undefined,
}

export type FilterOptions = {
  readonly owner?: string
  readonly event?: readonly string[]
  readonly since?: string
  readonly until?: string
}

export function isShown({ from, to, owner, names }: EventFilter, event: LogEvent): boolean {
  return (
    event.at >= from &&
    event.at < to &&
    (owner === undefined || event.fields.owner === owner) &&
    (names === undefined || names.has(event.event))
  )
}

/** Throws UsageError. */
export function filterOf({ owner, event, since, until }: FilterOptions): EventFilter {
  for (const name of event ?? []) checkName(name)
  return {
    from: since === undefined ? ALL_EVENTS.from : instantOf('--since', since),
    to: until === undefined ? ALL_EVENTS.to : instantOf('--until', until),
    owner,
    names: event && new Set(event),
  }
}

function checkName(name: string): void {
  if (NAMES.includes(name)) return
  const near = NAMES.filter((each) => isNear(name, each))
  // A text that could move a cursor is not repeated.
  const told = /^[\w.-]{1,40}$/.test(name) ? `--event ${name}` : '--event'
  throw new UsageError(`${told} is not the name of an event`, {
    hint: `use ${near.length > 0 ? near.join(', or ') : `one of ${NAMES.join(', ')}`}`,
  })
}

const NAMES: readonly string[] = EVENT_NAMES

const MOST_WRONG = 3

/** Whether a name has few other letters, or is a part of the other name. */
function isNear(name: string, other: string): boolean {
  const isPart = name.length > 2 && other.split('.').includes(name.toLowerCase())
  return isPart || distance(name.toLowerCase(), other) <= MOST_WRONG
}

/** Letters to insert, to remove or to change: the distance of Levenshtein. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]
}
