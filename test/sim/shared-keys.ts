// Epoch keys that all nodes of a world, and all their runs, derive once: most of a start was to derive these anew.

import type { EpochKey } from '../../src/crypto/epoch-key.ts'
import { type Keyring, wrappedBy } from '../../src/crypto/keyring.ts'

export class SharedKeys {
  readonly #known = new Map<string, EpochKey>()
  readonly #sharing = new WeakSet<Keyring>()

  /** The keyring, which from now on derives the keys of a wrapped key only where no other keyring has done so. */
  share(keyring: Keyring): Keyring {
    if (this.#sharing.has(keyring)) return keyring
    this.#sharing.add(keyring)
    const derive = keyring.epochKey.bind(keyring)
    keyring.epochKey = (owner, epoch, wrapped) => {
      const name = `${owner}@${epoch} ${Buffer.from(wrapped).toString('latin1')}`
      const known = keyring.ids.includes(wrappedBy(wrapped)) ? this.#known.get(name) : undefined
      const key = known ?? derive(owner, epoch, wrapped)
      this.#known.set(name, key)
      return key
    }
    return keyring
  }
}
