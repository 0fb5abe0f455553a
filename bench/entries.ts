// Entries as nodes write them, sealed under the real keys, put straight into etcd: a history of hours in
// seconds.
import { readFileSync } from 'node:fs'
import { randomHex, systemClock } from '../src/clock.ts'
import { Values } from '../src/crypto/canonical.ts'
import { EpochKey } from '../src/crypto/epoch-key.ts'
import { Keyring } from '../src/crypto/keyring.ts'
import type { EtcdEndpoint } from '../src/ledger/etcd-client.ts'
import type { Config } from '../src/node/config.ts'
import { decodeEntry, encodeEntry } from '../src/state/entries.ts'
import { ledgerKey } from '../src/state/ledger-keys.ts'
import { encodeSegment } from '../src/state/segment.ts'

const CALL_MS = 30_000
const LARGEST_VALUE = 32 * 1024

type Put = { readonly key: string; readonly value: Uint8Array }

/** A boot of its own. Put first, and then entries under its name. */
export class Boot {
  readonly id = randomHex(systemClock, 16)
  readonly #endpoint: EtcdEndpoint
  #segments = 0
  #commits = 0

  constructor(endpoint: EtcdEndpoint) {
    this.#endpoint = endpoint
  }

  /** In one revision. */
  async put(puts: readonly Put[]): Promise<void> {
    const success = puts.map(({ key, value }) => ({
      request_put: { key: Buffer.from(key, 'latin1'), value },
    }))
    const { succeeded } = await this.#endpoint.txn({ compare: [], success, failure: [] }, CALL_MS)
    if (!succeeded) throw new Error('etcd refused entries')
  }

  async begin(node: string): Promise<void> {
    await this.put([
      {
        key: ledgerKey.boot(this.id),
        value: encodeEntry({ kind: 'boot', boot: this.id, node }, this.#writer()),
      },
    ])
  }

  #writer(): { boot: string; commit: number } {
    return { boot: this.id, commit: this.#commits++ }
  }

  /** The values in segments of `each` mappings. */
  segments(key: EpochKey, values: Values, each: number): Put[] {
    const { owner, epoch } = key
    const chosen = Uint32Array.from({ length: values.count }, (_, i) => i)
    const mappings = key.seal(values, key.bodies(values), chosen)
    const puts: Put[] = []
    for (let from = 0; from < values.count; from += each) {
      const run = { mappings, from, to: Math.min(from + each, values.count) }
      const value = encodeSegment({ owner, epoch, writer: this.#writer() }, [run])
      puts.push({ key: ledgerKey.segment(this.id, ++this.#segments), value })
    }
    return puts
  }

  /** Opens epoch `epoch` of every owner, each under a key of its own. */
  epochs(keyring: Keyring, owners: readonly string[], epoch: number): Put[] {
    const openedAt = new Date(systemClock.now()).toISOString()
    return owners.flatMap((owner) => {
      const writer = this.#writer()
      const parts = ['epoch', owner, String(epoch)]
      const wrapped = keyring.wrap(systemClock.random(32), parts, systemClock)
      const active = encodeEntry({ kind: 'epoch', owner, active: epoch }, writer)
      const value = encodeEntry({ kind: 'key', owner, epoch, wrapped, openedAt }, writer)
      return [
        { key: ledgerKey.epoch(owner), value: active },
        { key: ledgerKey.wrappedKey(owner, epoch), value },
      ]
    })
  }
}

export function keyringOf({ keyring }: Config): Keyring {
  return Keyring.parse(readFileSync(keyring, 'utf8'))
}

/** The key of the owner's epoch 1, which a node has opened. */
export async function epochKeyOf(endpoint: EtcdEndpoint, keyring: Keyring, owner: string): Promise<EpochKey> {
  const name = ledgerKey.wrappedKey(owner, 1)
  const { kvs } = await endpoint.range({ key: Buffer.from(name, 'latin1') }, CALL_MS)
  const entry = kvs.length === 0 ? undefined : decodeEntry(name, kvs[0].value)
  if (entry?.kind !== 'key') throw new Error(`the owner ${owner} has no epoch 1`)
  return new EpochKey(owner, 1, keyring.unwrap(entry.wrapped, ['epoch', owner, '1']))
}

/** Canonical forms of the texts `textOf(first)` and so on. */
export function valuesOf(first: number, count: number, textOf: (number: number) => string): Values {
  const values = new Values(count)
  for (let i = first; i < first + count; i++) values.pushString(textOf(i), LARGEST_VALUE)
  return values
}
