// The keyed hashes of receipts: the hash of an Idempotency-Key, and the MAC of its request. Keyed, since bare
// hashes would let readers of the ledger try out bodies.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'

export type AskedRequest = {
  readonly method: string
  /** The decoded name of the secret, valid or not; '' where the URL has none. */
  readonly name: string
  readonly ifMatch: string | undefined
  readonly body: Uint8Array
}

/** 64 hex digits. */
export function receiptHash(key: KeyObject, owner: string, idempotencyKey: string): string {
  return createHmac('sha256', key).update(`key\0${owner}\0${idempotencyKey}`).digest('hex')
}

/** 32 bytes. */
export function requestMac(key: KeyObject, { method, name, ifMatch, body }: AskedRequest): Uint8Array {
  // No part has a zero byte: encodeURI leaves a valid name unchanged, and escapes the zero byte of an invalid
  // name. An empty If-Match differs from an absent If-Match.
  const head = `request\0${method}\0${encodeURI(name)}\0${ifMatch === undefined ? '' : `=${ifMatch}`}\0`
  return createHmac('sha256', key).update(head, 'utf8').update(body).digest()
}

export function sameMac(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
