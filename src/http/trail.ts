// The trail of the callers: each request with a key leaves an event, with who asked, from where and for what.
import type { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { type EventFields, type EventName, NAMES_A_LINE } from '../events/event.ts'
import type { EventLog } from '../events/log.ts'
import { Refusals } from '../events/refusals.ts'
import type { Result, Route } from './route.ts'

/** A request as far as the trail tells. */
type Asked = Pick<FastifyRequest, 'id' | 'identity' | 'client'>

export class Trail {
  readonly #events: Pick<EventLog, 'emit' | 'dropped'>
  readonly #refusals: Refusals

  constructor(events: Pick<EventLog, 'emit' | 'dropped'>) {
    this.#events = events
    this.#refusals = new Refusals(events)
  }

  /** An event of the caller and the request. */
  emit(request: Asked, event: EventName, fields: EventFields): void {
    this.#events.emit(event, { ...askedFields(request), ...fields })
  }

  /** The event of the route, where the answer has one. `ms`: how long the request took. */
  answered(request: Asked, { event: name }: Route, { event, names, replayed }: Result, ms: number): void {
    if (name === undefined || event === undefined) return
    const asked = askedFields(request)
    for (const part of partsOf(names)) {
      const fields = { ...asked, ...event, ...part, ms }
      if (replayed) this.#events.emit('request.replayed', fields)
      else this.#events.emit(name, fields)
    }
  }

  /** `reason`: the slug of the problem. */
  refused(request: Asked, reason: string): void {
    this.#refusals.add({ ...askedFields(request), reason })
  }

  /** For people: what is wrong with the trail. Empty where nothing is. */
  warnings(): readonly string[] {
    const { dropped } = this.#events
    if (dropped === 0) return []
    const what = dropped === 1 ? 'an event' : `${dropped} events`
    return [`${what} could not be written since the start: look at room and rights of the event log`]
  }

  close(): void {
    this.#refusals.close()
  }
}

/** The address of the peer: of an IPv4 peer in its own form, also where the socket is one of IPv6. */
export function clientOf({ remoteAddress }: Pick<Socket, 'remoteAddress'>): string {
  if (remoteAddress === undefined) return 'unix' // a socket in a file: such a peer has no address
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress)?.[1] ?? remoteAddress
}

function askedFields({ identity, id, client }: Asked): EventFields & { readonly client: string } {
  const request = String(id)
  return identity ? { owner: identity.owner, key_id: identity.keyId, client, request } : { client, request }
}

/**
 * The names of a request, once each, on as many lines as they need. `count` tells how many of `names` a line
 * stands for. Without names, or with none, there is one line.
 */
function partsOf(names: readonly string[] | undefined): EventFields[] {
  if (names === undefined) return [{}]
  if (names.length === 0) return [{ count: 0 }]
  if (names.every((name) => name === names[0])) return [{ name: names[0], count: names.length }]
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  const all = [...counts]
  return Array.from({ length: Math.ceil(all.length / NAMES_A_LINE) }, (_, i) => {
    const some = all.slice(i * NAMES_A_LINE, (i + 1) * NAMES_A_LINE)
    const count = some.reduce((sum, [, times]) => sum + times, 0)
    return { names: some.map(([name]) => name), part: i + 1, count }
  })
}
