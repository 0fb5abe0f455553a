// The events of a node, as its log has them.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { logFiles } from '../../src/events/rotation.ts'

/** For a log of a test: nothing is rotated. */
export const EVENT_LIMITS = { fileBytes: 1e9, files: 1, bytes: 1e10, days: 1 }

export type Event = Readonly<Record<string, unknown>>

/** All events in the logs of a data directory, the oldest first. */
export function eventsOf(data: string): Event[] {
  return logFiles(readdirSync(data)).flatMap((name) =>
    readFileSync(join(data, name), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line)),
  )
}
