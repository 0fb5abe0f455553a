// Requests between two instants, counted in words.
import type { LogEvent } from './line.ts'

type Request = {
  readonly at: number
  readonly node: string
  readonly event: string
  readonly count: number
  readonly reason: string
  /** A further line of a request with many names. */
  readonly isFurther: boolean
}

/** A sentence about some nodes. */
type Sentence = {
  /** The time of the first request. */
  readonly at: number
  readonly text: string
  readonly nodes: readonly string[]
  readonly refused: boolean
}

/** Events that count values, and the words for a count. */
const SERVED: readonly (readonly [event: string, words: (count: number) => string])[] = [
  ['tokens.issued', (count) => `${many(count, 'token')} issued`],
  ['tokens.resolved', (count) => `${many(count, 'token')} resolved`],
  ['secret.created', (count) => `${many(count, 'secret')} created`],
  ['secret.updated', (count) => `${many(count, 'secret')} updated`],
  ['secret.read', (count) => `${many(count, 'secret')} read`],
  ['secret.history', (count) => `${many(count, 'version')} listed`],
  ['secret.listed', (count) => `${many(count, 'name')} listed`],
  ['request.replayed', (count) => `${many(count, 'result')} given again`],
]

export class Activity {
  #requests: Request[] = []
  #isSorted = true

  add({ at, node, event, fields: { count, reason, part } }: LogEvent): void {
    const isServed = SERVED.some(([name]) => name === event)
    if (!isServed && event !== 'request.refused' && event !== 'requests.refused') return
    const number = typeof count === 'number' && Number.isFinite(count) ? count : 1
    const isFurther = typeof part === 'number' && part > 1
    const why = typeof reason === 'string' ? reason : ''
    this.#requests.push({ at, node, event, count: number, reason: why, isFurther })
    this.#isSorted = false
  }

  /** Of all requests. */
  total(event: string): number {
    return sum(this.#requests.filter((request) => request.event === event))
  }

  get refusals(): number {
    return sum(this.#requests.filter(isRefused))
  }

  /** Of the requests in [from, to). */
  between(from: number, to: number): Sentence[] {
    this.#sort()
    const requests = this.#requests.slice(this.#place(from), this.#place(to))
    const served = requests.filter((request) => !isRefused(request))
    const parts = SERVED.flatMap(([event, words]) => {
      const count = sum(served.filter((request) => request.event === event))
      return count === 0 ? [] : [words(count)]
    })
    const sentences: Sentence[] = []
    if (served.length > 0)
      sentences.push({
        at: served[0].at,
        text: `${many(served.filter(({ isFurther }) => !isFurther).length, 'request')}: ${parts.join(', ')}`,
        nodes: nodesOf(served),
        refused: false,
      })
    for (const [reason, group] of Map.groupBy(requests.filter(isRefused), (request) => request.reason)) {
      const text = `${many(sum(group), 'request')} refused${reason === '' ? '' : `: ${reason}`}`
      sentences.push({ at: group[0].at, text, nodes: nodesOf(group), refused: true })
    }
    return sentences
  }

  #sort(): void {
    if (this.#isSorted) return
    this.#requests = this.#requests.toSorted((a, b) => a.at - b.at)
    this.#isSorted = true
  }

  /** The first request at or after an instant. */
  #place(at: number): number {
    let [low, high] = [0, this.#requests.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#requests[middle].at < at) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** A line `requests.refused` counts requests; a line `request.refused` is a single request. */
function isRefused({ event }: Request): boolean {
  return event === 'request.refused' || event === 'requests.refused'
}

/** `1 token`, `1,200 tokens`. */
function many(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`
}

function sum(requests: readonly Request[]): number {
  return requests.reduce((total, { event, count }) => total + (event === 'request.refused' ? 1 : count), 0)
}

function nodesOf(requests: readonly Request[]): string[] {
  return [...new Set(requests.map(({ node }) => node))].toSorted()
}
