// Agreement among the nodes of a vault: on the configured fields, and on root keys. Each node puts both into
// the ledger, in its node entry, and compares the entries of all nodes.
import { createHash } from 'node:crypto'
import type { Keyring } from '../crypto/keyring.ts'
import type { Config } from '../node/config.ts'
import type { NodeEntry } from '../state/entries.ts'

/** The node entry for a configuration and a keyring. */
export function nodeEntry(config: Config, { active, ids }: Keyring): NodeEntry {
  return { kind: 'node', node: config.node, fields: fieldsHash(config), rootKeys: ids, active }
}

/** SHA-256 of the configured fields in sorted order, in hex: equal on all nodes of a vault. */
export function fieldsHash({ fields }: Config): string {
  return createHash('sha256')
    .update(JSON.stringify([...fields].sort()))
    .digest('hex')
}

/**
 * SHA-256 in hex of the owners in force, in canonical order: what decides about requests, so removed keys are
 * left out.
 */
export function ownersHash(owners: Config['owners']): string {
  const inForce = owners.map(({ removed: _removed, keys, ...owner }) => ({
    ...owner,
    keys: sortedById(keys),
  }))
  return createHash('sha256')
    .update(JSON.stringify(sortedById(inForce)))
    .digest('hex')
}

function sortedById<T extends { readonly id: string }>(list: readonly T[]): T[] {
  return list.toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

/**
 * Where `node` disagrees with the other nodes. The majority decides on fields, so that fields can be changed
 * node by node. A root key is missing where another node has the root key active.
 */
export function disagreements(node: string, nodes: ReadonlyMap<string, NodeEntry>): string[] {
  const own = nodes.get(node)
  if (!own) return []
  const others = [...nodes.values()].filter((each) => each !== own)
  const different = others.filter(({ fields }) => fields !== own.fields).map((each) => each.node)
  const reasons: string[] = []
  if (different.length * 2 >= nodes.size)
    reasons.push(`the configured fields are not those of ${nodeList(different)}`)
  for (const active of new Set(others.map((each) => each.active))) {
    if (own.rootKeys.includes(active)) continue
    const wrapping = others.filter((each) => each.active === active).map((each) => each.node)
    reasons.push(`the keyring has no root key ${active}, which is active on ${nodeList(wrapping)}`)
  }
  return reasons
}

function nodeList(nodes: readonly string[]): string {
  return `${nodes.length === 1 ? 'node' : 'nodes'} ${[...nodes].sort().join(', ')}`
}
