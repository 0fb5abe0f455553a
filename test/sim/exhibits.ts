// Bugs that others had, or that were feared here, planted where a world takes its parts: in the driver of the ledger. No exhibit changes a file of the product.

import { EtcdError, type RangeResponse } from '../../src/ledger/etcd-client.ts'
import { keyBytes, toEtcd } from '../../src/ledger/etcd-messages.ts'
import { entriesAt } from '../../src/ledger/etcd-snapshot.ts'
import {
  COMMIT_BYTES,
  type Commit,
  type CommitResult,
  type Ledger,
  LedgerUnavailable,
  type Revision,
  type SnapshotEntry,
  UnknownOutcome,
} from '../../src/ledger/ledger.ts'
import type { Variant } from './whole-world.ts'

/** A 64th of the bound of gRPC. */
const MESSAGE_BYTES = 1024 * 1024

type RangeQuery = {
  readonly key: Buffer
  readonly range_end: Buffer
  readonly limit?: number
  readonly count_only?: boolean
}

/** A driver with some of its methods replaced. */
function withParts(link: Ledger, parts: Partial<Ledger>): Ledger {
  return {
    commit: parts.commit ?? ((commit, deadline) => link.commit(commit, deadline)),
    head: parts.head ?? (() => link.head()),
    read: (key) => link.read(key),
    follow: parts.follow ?? ((after, signal) => link.follow(after, signal)),
    snapshot: parts.snapshot ?? ((ranges, signal) => link.snapshot(ranges, signal)),
    checkConnections: (check) => link.checkConnections(check),
    get right() {
      return link.right
    },
    health: () => link.health(),
    full: false,
    close: () => link.close(),
  }
}

/** Sends the commit without some of its guards. A refusal names all guards. */
function withoutGuards(link: Ledger, dropped: (key: string) => boolean): Partial<Ledger> {
  return {
    async commit(commit, deadline) {
      const sent = { ...commit, if: commit.if.filter(({ key }) => !dropped(key)) }
      const result = await link.commit(sent, deadline)
      if (result.ok) return result
      const found = await Promise.all(
        commit.if.map(({ key }) => result.found.find((each) => each.key === key) ?? link.read(key)),
      )
      return { ...result, found }
    },
  }
}

/** The receipt of a write leaves after the write, as a commit of its own, and guards nothing. */
function receiptApart(link: Ledger): Partial<Ledger> {
  const isReceipt = ({ key }: { readonly key: string }): boolean => key.startsWith('receipt/')
  const effects = withParts(
    link,
    withoutGuards(link, (key) => isReceipt({ key })),
  )
  return {
    async commit(commit, deadline) {
      const receipts = commit.put.filter((put) => isReceipt(put) && put.value !== null)
      if (receipts.length === 0) return link.commit(commit, deadline)
      const effect: Commit = { if: commit.if, put: commit.put.filter((put) => !isReceipt(put)) }
      const result = await effects.commit(effect, deadline)
      if (result.ok) await link.commit({ if: [], put: receipts }, deadline).catch(() => undefined)
      return result
    },
  }
}

/** A head as of an earlier call, but never one before what the node has seen by its stream. */
function staleHead(link: Ledger): Partial<Ledger> {
  let seen = 0
  let before = 0
  return {
    async head() {
      const answer = Math.max(seen, before)
      before = await link.head()
      return answer === 0 ? before : answer
    },
    async *follow(after, signal) {
      for await (const revision of link.follow(after, signal)) {
        seen = revision.revision
        yield revision
      }
    },
  }
}

/** A stream loses puts: of some revisions with several puts the last one. */
function losesEvents(link: Ledger): Partial<Ledger> {
  return {
    async *follow(after, signal) {
      for await (const { revision, puts } of link.follow(after, signal)) {
        const lost: Revision = { revision, puts: puts.slice(0, -1) }
        yield puts.length > 1 && revision % 7 === 0 ? lost : { revision, puts }
      }
    },
  }
}

/** Sends every commit again that was answered, and tells the second answer. */
function repeats(link: Ledger): Partial<Ledger> {
  return {
    async commit(commit, deadline): Promise<CommitResult> {
      const first = await link.commit(commit, deadline)
      return first.revision % 5 === 0 && !deadline.passed ? link.commit(commit, deadline) : first
    },
  }
}

/** Acknowledges a commit that no disk has. */
function losesAcknowledged(link: Ledger): Partial<Ledger> {
  return {
    async commit(commit, deadline): Promise<CommitResult> {
      const head = await link.head()
      return head % 11 === 10 ? { ok: true, revision: head + 1 } : link.commit(commit, deadline)
    },
  }
}

/** Tells a commit whose outcome is not known as one that has not happened. */
function unknownAsRefused(link: Ledger): Partial<Ledger> {
  return {
    commit: (commit, deadline) =>
      link.commit(commit, deadline).catch((error: unknown) => {
        if (error instanceof UnknownOutcome) throw new LedgerUnavailable('no-quorum', error.message)
        throw error
      }),
  }
}

/** Snapshots by pages, as the driver of etcd reads them, from members with messages of a 64th. */
function inPages(link: Ledger): Partial<Ledger> {
  return {
    async snapshot(ranges, signal) {
      const all = { from: '', to: '', largest: COMMIT_BYTES }
      const { revision, entries } = await link.snapshot([all], signal)
      const list: SnapshotEntry[] = []
      for await (const entry of entries) list.push(entry)
      return { revision, entries: read(entriesAt(revision, ranges, async (query) => rangeOf(list, query))) }
    },
  }
}

async function* read(entries: AsyncIterable<SnapshotEntry>): AsyncIterable<SnapshotEntry> {
  try {
    yield* entries
  } catch (error) {
    throw error instanceof EtcdError ? new LedgerUnavailable('no-quorum', error.message) : error
  }
}

/** The answer of a member. Throws EtcdError where the answer is too large. */
function rangeOf(list: readonly SnapshotEntry[], query: object): RangeResponse {
  const { key, range_end, limit = list.length, count_only } = query as RangeQuery
  const [from, end] = [key.toString('latin1'), range_end.toString('latin1')]
  const all = list.filter((each) => each.key >= from && (end === '\0' || each.key < end))
  const taken = count_only ? [] : all.slice(0, limit)
  const bytes = taken.reduce((sum, each) => sum + each.key.length + each.value.length, 0)
  if (bytes > MESSAGE_BYTES) throw new EtcdError(`Received message larger than max (${bytes})`, 'unknown')
  const kvs = taken.map(({ key, value, revision, created }) => ({
    key: keyBytes(key),
    value: Buffer.from(value),
    mod_revision: toEtcd(revision),
    create_revision: toEtcd(created),
  }))
  const header = { cluster_id: '1', member_id: '1', revision: '1', raft_term: '1' }
  return { header, kvs, more: taken.length < all.length, count: String(all.length) }
}

/** A member that has not applied a Txn of the others: all that comes after has another revision there. */
function diverges(link: Ledger): Partial<Ledger> {
  const AT = 40
  const there = (revision: number): number => (revision > AT ? revision - 1 : revision)
  return {
    head: async () => there(await link.head()),
    async *follow(after, signal) {
      for await (const { revision, puts } of link.follow(after >= AT ? after + 1 : after, signal)) {
        if (revision === AT) continue
        yield {
          revision: there(revision),
          puts: puts.map((put) => ({ ...put, created: there(put.created) })),
        }
      }
    },
  }
}

const driver = (parts: (link: Ledger) => Partial<Ledger>): Variant => ({
  driver: (link) => withParts(link, parts(link)),
})

/** Ways to the ledger that hold, and for bugs that the way of all worlds has not. */
export const WAYS = { pages: driver(inPages) }

/** Each with the laws, or the invariants of the product, by which it is to be found. */
export const EXHIBITS: Readonly<Record<string, { readonly variant: Variant; readonly found: RegExp }>> = {
  'mappings without the guard of their epoch': {
    variant: driver((link) => withoutGuards(link, (key) => key.startsWith('epoch/'))),
    found: /laws? \d/,
  },
  'versions without a guard: a lost update, as Galera': {
    variant: driver((link) => withoutGuards(link, (key) => key.startsWith('version/'))),
    found: /law|version/,
  },
  'the receipt outside the commit of its effect': {
    variant: driver(receiptApart),
    found: /Idempotency-Key/,
  },
  'a stale head, as etcd after a change of leader': {
    variant: driver(staleHead),
    found: /laws? [1346]|the ledger ends at/,
  },
  'a stream that loses events, as etcd at compaction': {
    variant: driver(losesEvents),
    found: /laws? \d|internal error|internal:|ledger/,
  },
  'a Txn sent twice, as jetcd': { variant: driver(repeats), found: /law|refused/ },
  'acknowledged and lost, as NATS': { variant: driver(losesAcknowledged), found: /laws? \d|ledger|not done/ },
  'members that diverge, as etcd#18667': {
    variant: driver(diverges),
    found: /laws? \d|not done by|is not in the ledger|internal error/,
  },
  'an unknown outcome told as refused': { variant: driver(unknownAsRefused), found: /refused|laws? \d/ },
}
