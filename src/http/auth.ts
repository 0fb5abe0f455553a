// API keys: the key alone decides the owner. Only hashes are stored, so a key is found by its hash, and a
// look-up by a SHA-256 tells nothing of the key by its timing.
import { hash } from 'node:crypto'

/** In the order of the contract. Every key has all rights. */
export const RIGHTS = ['tokenize', 'detokenize', 'rotate', 'secrets:read', 'secrets:write'] as const
export type Right = (typeof RIGHTS)[number]

export type Identity = { readonly owner: string; readonly keyId: string }

type OwnerKeys = {
  readonly id: string
  readonly keys: readonly { readonly id: string; readonly sha256: string }[]
}

const BEARER = /^bearer +([\x21-\x7e]{1,256}) *$/i

export class ApiKeys {
  #byHash: ReadonlyMap<string, Identity> = new Map()

  constructor(owners: readonly OwnerKeys[]) {
    this.replace(owners)
  }

  /** The owners as re-read: a removed key is unknown from now on. */
  replace(owners: readonly OwnerKeys[]): void {
    this.#byHash = new Map(
      owners.flatMap(({ id: owner, keys }) =>
        keys.map((key) => [key.sha256, { owner, keyId: key.id }] as const),
      ),
    )
  }

  /** Who an Authorization header is, if anybody. */
  identify(header: string | undefined): Identity | undefined {
    const key = header === undefined ? undefined : BEARER.exec(header)?.[1]
    return key === undefined ? undefined : this.#byHash.get(hashKey(key))
  }
}

/** The hash of an API key in the configuration: 64 hex digits. */
export function hashKey(key: string): string {
  return hash('sha256', key, 'hex')
}
