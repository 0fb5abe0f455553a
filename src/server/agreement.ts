// What the nodes of one vault must agree on, judged by what each of them has told the ledger.
import type { NodeEntry } from '../state/entries.ts'

/**
 * Why `node` cannot be trusted to do as the others do; empty when it can. Fields are the majority's to decide, so that
 * they can be changed on one node after the other; a root key is missing where another node wraps keys by it.
 */
export function disagreements(node: string, nodes: ReadonlyMap<string, NodeEntry>): string[] {
  const mine = nodes.get(node)
  if (!mine) return []
  const others = [...nodes.values()].filter((each) => each !== mine)
  const different = others.filter(({ fields }) => fields !== mine.fields).map((each) => each.node)
  const reasons: string[] = []
  if (different.length * 2 >= nodes.size)
    reasons.push(`the configured fields are not those of ${named(different)}`)
  for (const active of new Set(others.map((each) => each.active))) {
    if (mine.rootKeys.includes(active)) continue
    const wrapping = others.filter((each) => each.active === active).map((each) => each.node)
    reasons.push(`the keyring has no root key ${active}, which is active on ${named(wrapping)}`)
  }
  return reasons
}

function named(nodes: readonly string[]): string {
  return `${nodes.length === 1 ? 'node' : 'nodes'} ${[...nodes].sort().join(', ')}`
}
