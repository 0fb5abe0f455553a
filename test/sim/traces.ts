// What requests have left in a ledger, read from all its live entries.
import type { Ledger } from '../../src/ledger/ledger.ts'
import { decodeEntry } from '../../src/state/entries.ts'

export type Traces = {
  /** Token bodies in hex, of all owners and epochs: no two owners or epochs share one. */
  readonly bodies: ReadonlySet<string>
  /** `owner/name` of each secret. */
  readonly secrets: ReadonlySet<string>
  /** Ids of the requests that wrote versions of secrets. */
  readonly requests: ReadonlySet<string>
  /** The active epoch of each owner. */
  readonly epochs: ReadonlyMap<string, number>
}

export async function tracesOf(ledger: Ledger): Promise<Traces> {
  const [bodies, secrets, requests] = [new Set<string>(), new Set<string>(), new Set<string>()]
  const epochs = new Map<string, number>()
  const { entries } = await ledger.snapshot([{ from: '', to: '', largest: 1024 * 1024 }])
  for await (const { key, value } of entries) {
    const entry = decodeEntry(key, value)
    if (entry?.kind === 'epoch') epochs.set(entry.owner, entry.active)
    if (entry?.kind === 'version') {
      secrets.add(`${entry.owner}/${entry.name}`)
      requests.add(entry.requestId)
    }
    if (entry?.kind !== 'segment') continue
    for (let i = 0; i < entry.count; i++)
      bodies.add(Buffer.from(entry.bodies.subarray(i * 16, i * 16 + 16)).toString('hex'))
  }
  return { bodies, secrets, requests, epochs }
}
