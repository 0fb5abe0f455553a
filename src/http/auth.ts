// API keys: the key alone decides the owner. Only hashes are stored, so a key is found by its hash, and a
// look-up by a SHA-256 tells nothing of the key by its timing.
import { hash } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { Problem } from '../errors.ts'
import type { KeyLimits, Right } from '../wire.ts'

/** A caller: the owner, and the key with its limits as they are in force. */
export type Identity = KeyLimits & { readonly owner: string; readonly keyId: string }

type OwnerKeys = {
  readonly id: string
  readonly keys: readonly (KeyLimits & { readonly id: string; readonly sha256: string })[]
}

const BEARER = /^bearer +([\x21-\x7e]{1,256}) *$/i

export class ApiKeys {
  readonly #clock: Pick<Clock, 'now'>
  #byHash: ReadonlyMap<string, Identity> = new Map()
  #inForce: ReadonlySet<Identity> = new Set()

  /** `clock` decides when a key has ended. */
  constructor(owners: readonly OwnerKeys[], clock: Pick<Clock, 'now'>) {
    this.#clock = clock
    this.replace(owners)
  }

  /** The owners as re-read: a removed key is unknown from now on. */
  replace(owners: readonly OwnerKeys[]): void {
    this.#byHash = new Map(
      owners.flatMap(({ id: owner, keys }) =>
        keys.map(({ id, sha256, ...limits }) => [sha256, { ...limits, owner, keyId: id }] as const),
      ),
    )
    this.#inForce = new Set(this.#byHash.values())
  }

  /** Who an Authorization header is, if anybody: a key that has ended is unknown. */
  identify(header: string | undefined): Identity | undefined {
    const key = header === undefined ? undefined : BEARER.exec(header)?.[1]
    return this.#unlessEnded(key === undefined ? undefined : this.#byHash.get(hashKey(key)))
  }

  /** As `identify` of a header that was `caller` before: read again only after a reload. */
  identifyAgain(caller: Identity | undefined, header: string | undefined): Identity | undefined {
    if (caller && this.#inForce.has(caller)) return this.#unlessEnded(caller)
    return this.identify(header)
  }

  #unlessEnded(caller: Identity | undefined): Identity | undefined {
    return caller?.until !== undefined && this.#clock.now() >= caller.until ? undefined : caller
  }
}

/** Throws Problem `forbidden` where the key lacks the right. Undefined: every key may. */
export function checkRight({ may }: Identity, right: Right | undefined): void {
  if (right === undefined || may === undefined || may.includes(right)) return
  throw new Problem('forbidden', `the API key lacks the right ${right}`, { needs: right })
}

/** Throws Problem `forbidden` where one of the names does not begin with the prefix of the key. */
export function checkPrefix(prefix: string | undefined, names: readonly string[]): void {
  if (prefix === undefined || names.every((name) => name.startsWith(prefix))) return
  throw new Problem('forbidden', 'the API key has only the secrets whose names begin with its prefix', {
    prefix,
  })
}

/** The hash of an API key in the configuration: 64 hex digits. */
export function hashKey(key: string): string {
  return hash('sha256', key, 'hex')
}
