// The keyed hashes of receipts: the hash of an Idempotency-Key, and the MAC of its request. Keyed, since bare
// hashes would let readers of the ledger try out bodies. Bound to the caller, since an owner who reads the
// ledger could otherwise try out bodies by requests of its own, and compare the receipts.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'

/** An Idempotency-Key is of a single API key. */
export type AskedUnder = { readonly owner: string; readonly keyId: string; readonly idempotencyKey: string }

export type AskedRequest = {
  readonly method: string
  /** The decoded name of the secret, valid or not; '' where the URL has none. */
  readonly name: string
  readonly ifMatch: string | undefined
  readonly body: Uint8Array
}

/** 64 hex digits. */
export function receiptHash(key: KeyObject, under: AskedUnder): string {
  return createHmac('sha256', key)
    .update(`key\0${textOf(under)}`, 'utf8')
    .digest('hex')
}

/** 32 bytes. */
export function requestMac(key: KeyObject, under: AskedUnder, request: AskedRequest): Uint8Array {
  const { method, name, ifMatch, body } = request
  // No part has a zero byte: encodeURI leaves a valid name unchanged, and escapes the zero byte of an invalid
  // name. An empty If-Match differs from an absent If-Match.
  const asked = `${method}\0${encodeURI(name)}\0${ifMatch === undefined ? '' : `=${ifMatch}`}\0`
  return createHmac('sha256', key)
    .update(`request\0${textOf(under)}\0${asked}`, 'utf8')
    .update(body)
    .digest()
}

function textOf({ owner, keyId, idempotencyKey }: AskedUnder): string {
  return `${owner}\0${keyId}\0${idempotencyKey}`
}

export function sameMac(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
