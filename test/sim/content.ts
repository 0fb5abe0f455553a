// All that can be read from a state and its tables, as plain data for comparisons.

import { lastFound } from '../../src/replica/table.ts'
import type { Tables } from '../../src/replica/tables.ts'
import type { State } from '../../src/state/state.ts'
import { bodyOf } from './puts.ts'

export type Place = { readonly page: number; readonly slot: number }

/** The page and the slot of mapping number `id`; undefined where the mapping is not there. */
export function placeOf(tables: Tables, owner: string, epoch: number, id: number): Place | undefined {
  const words = new Uint32Array(4)
  new Uint8Array(words.buffer).set(bodyOf(id))
  if (!tables.get(owner, epoch)?.tokens.find(words, 0)) return undefined
  return { page: lastFound.page, slot: lastFound.slot }
}

/**
 * A state in lists of a fixed order. `places`: with the numbers of tables and records, which depend on the
 * order in which entries were learnt.
 */
export function contentOf(state: State, tables: Tables, { places }: { readonly places: boolean }): unknown {
  const owners = [...state.owners].map(([name, owner]) => ({
    name,
    active: owner.active,
    revision: owner.revision,
    keys: sorted(owner.keys).map(([epoch, { openedAt, wrapped }]) => [epoch, openedAt, hex(wrapped)]),
    tombstones: sorted(owner.tombstones).map(([epoch, { openedAt }]) => [epoch, openedAt]),
    keyRevisions: sorted(owner.keyRevisions),
    secrets: sorted(owner.secrets).map(([secret, versions]) => [
      secret,
      versions.map((each) => ({ ...each, record: places ? each.record : 0 })),
    ]),
    receipts: [...owner.receipts.entries()].map(([id, record]) => [hex(id), places ? record : 0]).sort(),
    latest: owner.latest,
    bytes: owner.bytes,
  }))
  return {
    digest: state.digest(),
    applied: state.applied,
    genesis: state.genesis && [state.genesis.identity, hex(state.genesis.receiptKey), state.genesisRevision],
    owners: owners.sort((a, b) => (a.name < b.name ? -1 : 1)),
    boots: sorted(state.boots),
    nodes: sorted(state.nodes).map(([node, entry]) => [node, entry, state.nodeRevision(node)]),
    dataKeys: sorted(state.dataKeys).filter(([, count]) => count > 0),
    sizes: sorted(state.sizes),
    ranges: state.ranges.known(),
    tables: sorted(state.tables).map(([name, { id, dropped }]) => [
      name,
      { id: places ? id : 0, dropped, count: tables.byId(id)?.tokens.count },
    ]),
    mappings: tables.mappings,
    meta: places ? state.meta : { witnesses: state.meta.witnesses, stored: state.meta.stored },
  }
}

function sorted<K extends string | number, V>(map: ReadonlyMap<K, V>): [K, V][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1))
}

function hex(bytes: Uint8Array | string): string {
  return (typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : Buffer.from(bytes)).toString('hex')
}
