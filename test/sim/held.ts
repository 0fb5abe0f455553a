// What one run of a node holds for certain: tokens and versions that the same run has told before. Such a run has to answer
// them again, with or without a ledger. Imports nothing of the product.
import { type Answer, type Ask, secretOf } from './asks.ts'

export class Held {
  /** By owner. */
  readonly #tokens = new Map<string, Set<string>>()
  readonly #versions = new Set<string>()

  /** An answer of the run. */
  note(asked: Ask, answer: Answer): void {
    const { owner } = asked
    if (asked.kind === 'read' && answer.kind === 'secret')
      this.#versions.add(versionOf(owner, asked.name, answer.version))
    const found = answer.kind === 'values' ? answer.values : answer.kind === 'retokens' ? answer.tokens : []
    if (asked.kind !== 'detokenize' && asked.kind !== 'retokenize') return
    const tokens = this.#tokens.get(owner) ?? new Set()
    this.#tokens.set(owner, tokens)
    for (const [i, token] of asked.tokens.entries()) if (found[i] !== undefined) tokens.add(token)
  }

  /** Whether the run can answer by what it holds. */
  answers(asked: Ask): boolean {
    const { owner } = asked
    const version = (name: string, number: number | undefined): boolean =>
      number !== undefined && this.#versions.has(versionOf(owner, name, number))
    if (asked.kind === 'detokenize')
      return asked.tokens.every((token) => this.#tokens.get(owner)?.has(token) ?? false)
    if (asked.kind === 'read') return version(asked.name, asked.version)
    return asked.kind === 'resolve' && asked.refs.every((ref) => version(ref.name, ref.version))
  }
}

const versionOf = (owner: string, name: string, version: number): string =>
  `${secretOf(owner, name)}@${version}`
