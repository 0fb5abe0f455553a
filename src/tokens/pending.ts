// Mappings on their way to the ledger, or accepted and not yet applied here, found by token body: a request
// for the same value joins the pending commit instead of making another commit.
import { assert } from '../assert.ts'
import { lastFound, TokenTable } from '../replica/table.ts'

/** waiting: not sent; sent; accepted by the ledger; gone: applied here, or failed. */
type PendingCommit = { stage: 'waiting' | 'sent' | 'accepted' | 'gone' }

/**
 * A pending table has no pages: the table stores the index of a commit where a replica's table stores a page
 * number.
 */
const NO_SLOT = 0

/** A table with fewer mappings than this part of its slots is dropped, not used again. */
const LEAST_USED = 4

type Generation<C> = { readonly table: TokenTable; readonly commits: C[] }

const newGeneration = <C>(): Generation<C> => ({ table: new TokenTable(), commits: [] })

/**
 * The pending mappings of an owner and epoch. Bodies cannot be removed from a table, so there are two
 * generations; the older generation is dropped when all its commits are gone.
 */
export class PendingMappings<C extends PendingCommit> {
  #current: Generation<C> = newGeneration()
  #previous: Generation<C> = newGeneration()

  /**
   * The commit that carries the body at `words[at]`; undefined where there is none, or the commit is gone.
   */
  find(words: Uint32Array, at: number): C | undefined {
    return findIn(this.#current, words, at) ?? findIn(this.#previous, words, at)
  }

  add(words: Uint32Array, at: number, commit: C): void {
    const { commits, table } = this.#current
    if (commits.at(-1) !== commit) {
      assert(commit.stage === 'waiting', 'a mapping joins a commit before the commit is sent')
      commits.push(commit)
    }
    table.insert(words, at, commits.length - 1, NO_SLOT)
  }

  /** Drops the older generation where all its commits are gone. Returns true when nothing is pending. */
  sweep(): boolean {
    if (this.#previous.commits.some((commit) => commit.stage !== 'gone')) return false
    const dropped = this.#previous
    this.#previous = this.#current
    this.#current = emptied(dropped)
    return this.#previous.commits.every((commit) => commit.stage === 'gone')
  }
}

/**
 * The memory of a generation that was used well serves again. Where most of it was not used, a new generation
 * begins small: the next one may have a single mapping.
 */
function emptied<C>({ table, commits }: Generation<C>): Generation<C> {
  if (table.count === 0 || table.count * LEAST_USED < table.slots) return newGeneration()
  table.clear()
  commits.length = 0
  return { table, commits }
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
