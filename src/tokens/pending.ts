// Commits that are pending here: mappings on their way to the ledger, or accepted and not yet applied. They are found
// by token body, so that the same value asked for again joins its commit instead of making another one.
import { lastFound, TokenTable } from '../replica/table.ts'

/** waiting: not sent; sent; accepted; gone: applied here, or it failed. */
export type PendingCommit = { stage: 'waiting' | 'sent' | 'accepted' | 'gone' }

/** A pending table has no pages: it stores the index of a commit where a replica's table stores a page number. */
const NO_SLOT = 0

type Generation<C> = { readonly table: TokenTable; readonly commits: C[] }

/**
 * The pending mappings of one owner and epoch. Bodies cannot be removed from a table, so there are two generations;
 * the older one is dropped when all of its commits are gone.
 */
export class PendingMappings<C extends PendingCommit> {
  #current: Generation<C> = { table: new TokenTable(), commits: [] }
  #previous: Generation<C> = { table: new TokenTable(), commits: [] }

  /** The commit that carries the body at `words[at]`, unless it is gone. */
  find(words: Uint32Array, at: number): C | undefined {
    return findIn(this.#current, words, at) ?? findIn(this.#previous, words, at)
  }

  add(words: Uint32Array, at: number, commit: C): void {
    const { commits, table } = this.#current
    if (commits.at(-1) !== commit) commits.push(commit)
    table.insert(words, at, commits.length - 1, NO_SLOT)
  }

  /** Drops what is gone. Returns true when nothing is left. */
  sweep(): boolean {
    if (this.#previous.commits.some((commit) => commit.stage !== 'gone')) return false
    this.#previous = this.#current
    this.#current = { table: new TokenTable(), commits: [] }
    return this.#previous.commits.every((commit) => commit.stage === 'gone')
  }
}

function findIn<C extends PendingCommit>(
  generation: Generation<C>,
  words: Uint32Array,
  at: number,
): C | undefined {
  if (generation.table.count === 0 || !generation.table.find(words, at)) return undefined
  const commitIndex = lastFound.page
  const commit = generation.commits[commitIndex]
  return commit.stage === 'gone' ? undefined : commit
}
