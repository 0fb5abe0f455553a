// Requests whose heads have arrived and whose bodies do not end: the framing is broken, the client has closed
// the sending side, or the body takes too long. Refused as other requests are, under their own ids.
import type { IncomingMessage } from 'node:http'
import type { Problem } from '../errors.ts'

type Refuse = (problem: Problem) => void

const refusals = new WeakMap<IncomingMessage, Refuse>()

/** `refuse` is called where the request is cut. Returns a function: the former `refuse` is valid again. */
export function whenCut(request: IncomingMessage, refuse: Refuse): () => void {
  const before = refusals.get(request)
  refusals.set(request, refuse)
  return () => {
    if (before) refusals.set(request, before)
    else refusals.delete(request)
  }
}

/** The request is cut. False where nobody refuses the request. */
export function refuseCut(request: IncomingMessage, problem: Problem): boolean {
  const refuse = refusals.get(request)
  refuse?.(problem)
  return refuse !== undefined
}
