// Refused requests in the event log. A flood of refusals must not push other events out: refusals without a
// known key, and those of a known key beyond some a second, are told once a second by their sum.
import { assert } from '../assert.ts'
import type { EventFields } from './event.ts'
import type { EventLog } from './log.ts'

/** Lines for the refusals of one known key with one reason, in a second. */
const LINES_A_SECOND = 10
const SECOND_MS = 1000

/** `owner` and `key_id` where the key is known. */
type Refusal = Pick<EventFields, 'owner' | 'key_id' | 'request'> & {
  readonly client: string
  readonly reason: string
}

/** The refusals of one key, or of all without a known key, with one reason in the current second. */
type Sum = { lines: number; count: number; client: string }

export class Refusals {
  readonly #events: Pick<EventLog, 'emit'>
  /** By `Refusal` as `sumKey` has it. */
  readonly #sums = new Map<string, Sum>()
  #second: NodeJS.Timeout | undefined

  constructor(events: Pick<EventLog, 'emit'>) {
    this.#events = events
  }

  /** Writes a line for the refusal, or counts the refusal. */
  add(refusal: Refusal): void {
    const { owner, key_id, client, reason } = refusal
    assert((owner === undefined) === (key_id === undefined), 'a known key has an owner')
    const key = JSON.stringify(owner === undefined ? [reason] : [reason, owner, key_id])
    let sum = this.#sums.get(key)
    if (sum === undefined) {
      sum = { lines: 0, count: 0, client: '' }
      this.#sums.set(key, sum)
      this.#second ??= setTimeout(() => this.#tell(), SECOND_MS)
    }
    if (owner !== undefined && sum.lines < LINES_A_SECOND) {
      sum.lines++
      this.#events.emit('request.refused', refusal)
    } else {
      sum.count++
      sum.client = client
    }
  }

  /** Tells what is counted. Later refusals are told as before. */
  close(): void {
    this.#tell()
  }

  #tell(): void {
    clearTimeout(this.#second)
    this.#second = undefined
    for (const [key, { count, client }] of this.#sums) {
      if (count === 0) continue
      const [reason, owner, key_id]: string[] = JSON.parse(key) // written by `add`
      this.#events.emit('requests.refused', { owner, key_id, client, count, reason })
    }
    this.#sums.clear()
  }
}
