// Which events of the logs are shown.
import { UsageError } from '../../errors.ts'
import { parseInstant } from '../../wire.ts'
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
  for (const name of event ?? []) {
    if (!/^[a-z]+\.[a-z-]+$/.test(name))
      throw new UsageError('--event is not the name of an event', {
        hint: 'use a name such as epoch.rotated; docs/events.md lists all',
      })
  }
  return {
    from: instant('--since', since) ?? ALL_EVENTS.from,
    to: instant('--until', until) ?? ALL_EVENTS.to,
    owner,
    names: event && new Set(event),
  }
}

function instant(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const at = parseInstant(text)
  if (at !== undefined) return at
  throw new UsageError(`${option} is not an instant`, { hint: 'use an instant such as 2026-01-31T12:00:00Z' })
}
