// Between the ledger's words and etcd's: commits as Txns, answers as results, watch responses as whole
// revisions. etcd counts revisions from 1 for an empty store; the ledger from 0.
import {
  EtcdError,
  type KeyValue,
  type RangeResponse,
  type ResponseOp,
  type TxnResponse,
  type WatchResponse,
} from './etcd-client.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  type Found,
  type LedgerPut,
  LedgerUnavailable,
  type Revision,
  type RevisionPut,
  type SnapshotEntry,
} from './ledger.ts'

/** The range of all keys. */
export const ALL = { key: Buffer.of(0), range_end: Buffer.of(0) }

export const fromEtcd = (revision: string): number => Number(revision) - 1
export const toEtcd = (revision: number): string => String(revision + 1)
export const keyBytes = (key: string): Buffer => Buffer.from(key, 'latin1')
export const keyText = (key: Buffer): string => key.toString('latin1')

export function entryOf({ key, value, mod_revision, create_revision }: KeyValue): SnapshotEntry {
  return { key: keyText(key), value, revision: fromEtcd(mod_revision), created: fromEtcd(create_revision) }
}

/** The key of a range response for a single key. */
export function foundIn(key: string, { kvs }: Pick<RangeResponse, 'kvs'>): Found {
  return kvs.length === 0 ? { key, revision: 0, created: 0, value: null } : entryOf(kvs[0])
}

function txnOf({ if: guards, put }: Commit): object {
  return {
    compare: guards.map(({ key, revision }) => ({
      result: 'EQUAL',
      target: 'MOD',
      key: keyBytes(key),
      mod_revision: revision === 0 ? '0' : toEtcd(revision),
    })),
    success: put.map(({ key, value }: LedgerPut) =>
      value === null
        ? { request_delete_range: { key: keyBytes(key) } }
        : { request_put: { key: keyBytes(key), value } },
    ),
    failure: guards.map(({ key }) => ({ request_range: { key: keyBytes(key) } })),
  }
}

/** A single commit as a Txn, several as nested Txns of an unconditional Txn; several share a revision. */
export function txnRequest(commits: readonly Commit[]): object {
  if (commits.length === 1) return txnOf(commits[0])
  return { compare: [], success: commits.map((commit) => ({ request_txn: txnOf(commit) })), failure: [] }
}

/**
 * The result of each commit of a request. Throws EtcdError where the answer does not have a part for each.
 */
export function txnResults(response: TxnResponse, commits: readonly Commit[]): CommitResult[] {
  const revision = fromEtcd(response.header.revision)
  const txns = commits.length === 1 ? [response] : response.responses.map((each) => each.response_txn)
  return commits.map((commit, i): CommitResult => {
    const txn = txns[i]
    if (!txn) throw new EtcdError('the answer lacks a part for a commit', 'unknown')
    if (txn.succeeded) return { ok: true, revision }
    return { ok: false, revision, found: commit.if.map(({ key }, j) => foundOf(key, txn.responses[j])) }
  })
}

function foundOf(key: string, response: ResponseOp | undefined): Found {
  return foundIn(key, response?.response_range ?? { kvs: [] })
}

/** Assembles the responses of a watch to whole revisions, dense from `after` on. */
export class Revisions {
  #last: number
  #events: WatchResponse['events'][number][] = []

  constructor(after: number) {
    this.#last = after
  }

  /** The last assembled revision. */
  get last(): number {
    return this.#last
  }

  /**
   * The revisions completed by the response; a lower revision is a duplicate and skipped. Throws Compacted,
   * also on a jump, which means lost events and needs a snapshot, too; LedgerUnavailable where the watch was
   * cancelled.
   */
  add(response: WatchResponse): readonly Revision[] {
    if (Number(response.compact_revision) > 0) throw new Compacted('the revisions asked for are gone')
    if (response.canceled)
      throw new LedgerUnavailable('no-quorum', response.cancel_reason || 'the watch was cancelled')
    this.#events.push(...response.events)
    if (response.fragment) return []
    const events = this.#events
    this.#events = []
    const whole: Revision[] = []
    for (let from = 0; from < events.length; ) {
      const revision = fromEtcd(events[from].kv.mod_revision)
      let to = from
      while (to < events.length && fromEtcd(events[to].kv.mod_revision) === revision) to++
      if (revision > this.#last + 1) throw new Compacted(`revisions after ${this.#last} were lost`)
      if (revision === this.#last + 1) {
        whole.push({ revision, puts: events.slice(from, to).map(putOf) })
        this.#last = revision
      }
      from = to
    }
    return whole
  }
}

function putOf({ type, kv }: WatchResponse['events'][number]): RevisionPut {
  if (type === 'PUT') return entryOf(kv)
  return { key: keyText(kv.key), value: null, created: 0 }
}
