// Judges who is let in: what API keys may, and quotas, at each node. A node that has read its files has in force what the
// files said then, whatever else the node waits for. Imports nothing of the product.

import type { Answer, Ask } from './asks.ts'
import { check } from './violation.ts'

/** What a key may, by the instants of a node's clock. Undefined: all, for ever. */
export type Limits = { readonly may?: readonly Need[]; readonly until?: number }
export type Need = 'tokenize' | 'detokenize' | 'rotate' | 'secrets:read' | 'secrets:write'
export type Access = {
  /** By owner and id of the key, as `keyOf`. */
  readonly keys: ReadonlyMap<string, Limits>
  /** Owners whose quota is used up. */
  readonly full: ReadonlySet<string>
}

export const NEEDS: Readonly<Record<Ask['kind'], Need>> = {
  tokenize: 'tokenize',
  retokenize: 'tokenize',
  epochs: 'tokenize',
  detokenize: 'detokenize',
  rotate: 'rotate',
  write: 'secrets:write',
  read: 'secrets:read',
  resolve: 'secrets:read',
  history: 'secrets:read',
  names: 'secrets:read',
}

export const keyOf = (owner: string, id: string): string => `${owner}/${id}`

/** A call: with which key, and the earliest and latest time of the node's clock. */
type Caller = {
  readonly id: string
  /** As `since` of the node when the call began. */
  readonly least: number
  readonly clock: readonly [from: number, to: number]
}

type Verdict = 'unauthorized' | 'forbidden' | 'allowed'

export class AccessJudge {
  /** All contents of the files, in their order. */
  readonly #versions: Access[]
  /** The version that each node has read at least. */
  readonly #read = new Map<string, number>()

  constructor(first: Access) {
    this.#versions = [first]
  }

  get now(): Access {
    return this.#versions[this.#versions.length - 1]
  }

  /** The files of all nodes say something else from now on. */
  change(access: Access): void {
    this.#versions.push(access)
  }

  /** A node begins to read its files. Returns the function to be called when the node has read them. */
  reads(node: string): () => void {
    const version = this.#versions.length - 1
    return () => void this.#read.set(node, Math.max(version, this.since(node)))
  }

  /** The version that the node has in force at least. */
  since(node: string): number {
    return this.#read.get(node) ?? 0
  }

  /** Throws Violation where no version that the node may have had in force explains the answer. */
  judge({ id, least, clock }: Caller, ask: Ask, answer: Answer): void {
    if (answer.kind === 'unknown') return
    const slug = answer.kind === 'refused' ? answer.slug : ''
    const verdict = slug === 'unauthorized' || slug === 'forbidden' ? slug : 'allowed'
    const possible = this.#versions.slice(least)
    const key = keyOf(ask.owner, id)
    const explained = possible.some(({ keys }) => verdicts(keys.get(key), ask, clock).includes(verdict))
    check(explained, `a key was ${verdict}, and could not be: ${key} for ${ask.kind}`)
    const isFull = ({ full }: Access): boolean => full.has(ask.owner)
    if (slug === 'quota-exceeded') check(possible.some(isFull), 'a quota that was lifted is in force')
    const stored = answer.kind === 'written' && !answer.replayed
    check(!stored || !possible.every(isFull), 'a quota that is in force was passed')
  }
}

function verdicts(limits: Limits | undefined, ask: Ask, [from, to]: Caller['clock']): readonly Verdict[] {
  if (limits === undefined) return ['unauthorized']
  const { may, until = Number.POSITIVE_INFINITY } = limits
  const live: Verdict = may === undefined || may.includes(NEEDS[ask.kind]) ? 'allowed' : 'forbidden'
  return [...(from < until ? [live] : []), ...(to >= until ? ['unauthorized' as const] : [])]
}
