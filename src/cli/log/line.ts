// A line of an event log, as read.

export type LogEvent = {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly time: string
  readonly node: string
  readonly seq: number
  readonly event: string
  readonly revision: number | undefined
  /** All members of the line, in its order. */
  readonly fields: Readonly<Record<string, unknown>>
  /** The bytes of the line, without the newline. */
  readonly bytes: Uint8Array
}

/** The event of a line; undefined where the line is not an event. Members not known here are kept. */
export function parseLine(bytes: Buffer): LogEvent | undefined {
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined
  const fields = json as Record<string, unknown> // just checked: an object
  const { time, node, seq, event } = fields
  if (typeof time !== 'string' || typeof node !== 'string' || typeof event !== 'string') return undefined
  const at = Date.parse(time)
  if (Number.isNaN(at) || typeof seq !== 'number') return undefined
  const revision = typeof fields.revision === 'number' ? fields.revision : undefined
  return { at, time, node, seq, event, revision, fields, bytes }
}
