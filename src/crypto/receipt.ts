// The keyed hashes of receipts: one names an Idempotency-Key, one the request that it came with. Keyed, since a bare hash
// would let whoever reads the ledger try out bodies.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'

export type AskedRequest = {
  readonly method: string
  /** With its query, as it was sent. */
  readonly path: string
  readonly ifMatch: string | undefined
  readonly body: Uint8Array
}

/** 64 hex digits. */
export function receiptHash(key: KeyObject, owner: string, idempotencyKey: string): string {
  return createHmac('sha256', key).update(`key\0${owner}\0${idempotencyKey}`).digest('hex')
}

/** 32 bytes. */
export function requestMac(key: KeyObject, { method, path, ifMatch, body }: AskedRequest): Uint8Array {
  // None of these has a zero byte; an If-Match that is empty is another than none.
  const head = `request\0${method}\0${path}\0${ifMatch === undefined ? '' : `=${ifMatch}`}\0`
  return createHmac('sha256', key).update(head, 'utf8').update(body).digest()
}

export function sameMac(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
