// Shared by the parts of a suite: the directory, the amount of work, and the results.
import type { Bare } from './floor.ts'
import type { Row } from './table.ts'

export type Bench = {
  /** Temporary, removed at the end. */
  readonly dir: string
  readonly quick: boolean
  /** Of the suite `recovery` and the part `ndjson`: the part of the full amounts, above 0, at most 1. */
  readonly size: number
  /** The growth ends at so many mappings. */
  readonly largest: number
  /** Options of Node for the vaults. */
  readonly flags: readonly string[]
  /** Of `performance.now()`: from then on nothing new is begun. */
  readonly until: number
  readonly rows: Row[]
  readonly growth: GrowthPoint[]
  readonly floors: Floors
  say(text: string): void
}

/** In units a second; absent: not measured. */
export type Floors = {
  bare: Map<number, Bare>
  /** Requests with one value, by connections. */
  echo: Map<number, number>
  /** Commits of 250 bytes, by commits in flight. */
  smallCommits: Map<number, number>
  /** Small puts of a bare etcd cluster, by puts in flight. */
  etcdPuts: Map<number, number>
  /** Transactions of a bare etcd cluster with the puts of a secret. */
  etcdSecrets?: number
  /** Bytes a second in large puts of a bare etcd cluster. */
  etcdBytes?: number
}

/** A vault of one size, as the growth measured it. */
export type GrowthPoint = {
  readonly mappings: number
  /** New values a second, over the last stretch of the load. */
  readonly tokenize: number
  readonly inOrder: number
  readonly atRandom: number
  /** Part of a core taken by the rest of the machine while new values were measured. */
  readonly othersCpu: number
  /** Bytes. `anon` is the process's own memory, `rss` has the mapped files too. */
  readonly rss: number
  readonly anon: number
  readonly anonAfterStart: number
  readonly ledger: number
  readonly replica: number
  /** Seconds. */
  readonly stop: number
  readonly start: number
  readonly startWithoutCheckpoint: number
  readonly rebuild?: number
}
