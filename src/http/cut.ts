// Requests whose heads have arrived and whose bodies do not end: the framing is broken, the client has closed
// the sending side, or the body takes too long. Refused as other requests are, under their own ids.
import type { IncomingMessage } from 'node:http'
import type { Problem } from '../errors.ts'

type Refuse = (problem: Problem) => void

/** A property: a map of all requests costs a tenth of the small ones. */
const REFUSE = Symbol('refuse')

type Request = IncomingMessage & { [REFUSE]?: Refuse | undefined }

/** `refuse` is called where the request is cut. Returns the former `refuse`, to be set again. */
export function whenCut(request: Request, refuse: Refuse | undefined): Refuse | undefined {
  const before = request[REFUSE]
  request[REFUSE] = refuse
  return before
}

/** The request is cut. False where nobody refuses the request. */
export function refuseCut(request: Request, problem: Problem): boolean {
  const refuse = request[REFUSE]
  refuse?.(problem)
  return refuse !== undefined
}
