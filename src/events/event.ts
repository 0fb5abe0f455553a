// Events: their names, and the line of an event in the log.
import type { Clock } from '../clock.ts'

export const EVENT_NAMES = [
  'node.started',
  'node.ready',
  'node.stopped',
  'ledger.connected',
  'ledger.leader',
  'ledger.lost',
  'ledger.recovered',
  'replica.applied',
  'replica.caught-up',
  'replica.rebuilt',
  'tokens.issued',
  'tokens.resolved',
  'epoch.rotated',
  'epoch.observed',
  'epochs.read',
  'secret.created',
  'secret.updated',
  'secret.read',
  'secret.history',
  'secret.listed',
  'key.shown',
  'key.budget',
  'request.replayed',
  'request.refused',
  'requests.refused',
] as const

export type EventName = (typeof EVENT_NAMES)[number]

/**
 * The fields that apply to the event. Never a value, a secret or a key. A text too long for a line is cut.
 */
export type EventFields = {
  owner?: string
  key_id?: string
  /** The address of the peer. */
  client?: string
  request?: string
  epoch?: number
  revision?: number
  /** Of a secret. */
  name?: string
  /** Of secrets; at most NAMES_A_LINE. */
  names?: readonly string[]
  /** Counts the lines of an event with `names`, from 1. */
  part?: number
  /** Of a secret. */
  version?: number
  count?: number
  missing?: number
  from?: string | number
  to?: string | number
  /** A duration in milliseconds. */
  ms?: number
  reason?: string
}

/** Names of secrets have at most 256 characters, so that all names fit into a line. */
export const NAMES_A_LINE = 50
/**
 * Characters of a line; texts of a longer line are cut. Lines stay below the window of file.ts, also in
 * UTF-8.
 */
const MAX_LINE = 16 * 1024
const MAX_TEXT = 1024

/** Writes the lines of a node. */
export class LineWriter {
  readonly #node: string
  readonly #clock: Pick<Clock, 'now'>
  #stamp = { at: Number.NaN, text: '' }

  constructor(node: string, clock: Pick<Clock, 'now'>) {
    this.#node = node
    this.#clock = clock
  }

  /** The line with its newline. Throws where the clock has no valid time, or a field is not JSON. */
  line(seq: number, event: EventName, fields: EventFields): string {
    const now = this.#clock.now()
    if (now !== this.#stamp.at) this.#stamp = { at: now, text: new Date(now).toISOString() }
    const { owner, key_id, client, request, epoch, revision, name, names, part, version } = fields
    const { count, missing, from, to, ms, reason } = fields
    const members = {
      // The order of the members in a line. Named one by one, to keep other members of `fields` out; a single
      // JSON.stringify takes two thirds of the time of a line put together by hand.
      time: this.#stamp.text,
      node: this.#node,
      seq,
      event,
      owner,
      key_id,
      client,
      request,
      epoch,
      revision,
      name,
      names,
      part,
      version,
      count,
      missing,
      from,
      to,
      ms,
      reason,
    }
    const line = JSON.stringify(members)
    return `${line.length <= MAX_LINE ? line : JSON.stringify(members, cut)}\n`
  }
}

function cut(_name: string, value: unknown): unknown {
  return typeof value === 'string' ? value.slice(0, MAX_TEXT) : value
}
