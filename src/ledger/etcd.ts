// The etcd driver: a commit is a Txn, the head a linearizable read, following a watch of the whole key space.
//
// etcd counts revisions from 1 for an empty store; the ledger from 0. Independent commits that wait travel together as
// nested Txns in one write, each with its own guards: they share a revision and each gets its own outcome.
import {
  EtcdEndpoint,
  EtcdError,
  type KeyValue,
  type ResponseOp,
  type Tls,
  type TxnResponse,
  type WatchResponse,
} from './etcd-client.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  commitBytes,
  type Found,
  type Ledger,
  type LedgerPut,
  LedgerUnavailable,
  type Revision,
  type SnapshotEntry,
  UnknownOutcome,
} from './ledger.ts'

/** Bytes and commits that one write carries; etcd refuses requests above 1.5 MiB. */
const WRITE_BYTES = 1024 * 1024
const WRITE_COMMITS = 64
/** Writes on their way at once. */
const IN_FLIGHT = 4
const CALL_MS = 3000
const READY_MS = 1000
const PAGE_ENTRIES = 64
const ALL = { key: Buffer.of(0), range_end: Buffer.of(0) }

type Waiting = {
  readonly commit: Commit
  readonly keys: ReadonlySet<string>
  readonly bytes: number
  readonly resolve: (result: CommitResult) => void
  readonly reject: (error: Error) => void
}

/** Releases that answer linearizable reads and watches as they promise (etcd-io/etcd#20418, lost watch events). */
const OLDEST: readonly (readonly [number, number, number])[] = [
  [3, 5, 33],
  [3, 6, 14],
  [3, 7, 1],
]

export function versionIsRight(version: string): boolean {
  const [major, minor, patch] = version.split('.').map((part) => Number.parseInt(part, 10))
  const oldest = OLDEST.find((each) => each[0] === major && each[1] === minor)
  if (oldest) return patch >= oldest[2]
  const newest = OLDEST[OLDEST.length - 1]
  return major > newest[0] || (major === newest[0] && minor > newest[1])
}

export class EtcdLedger implements Ledger {
  readonly kind = 'etcd'
  readonly #endpoints: readonly EtcdEndpoint[]
  readonly #checked = new Set<EtcdEndpoint>()
  #current = 0
  #waiting: Waiting[] = []
  #inFlight = 0
  #term = 0n
  readonly #closing = new AbortController()

  constructor(urls: readonly string[], tls?: Tls) {
    this.#endpoints = urls.map((url) => new EtcdEndpoint(url, tls))
  }

  commit(commit: Commit): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      const keys = new Set([...commit.put.map((put) => put.key), ...commit.if.map((guard) => guard.key)])
      this.#waiting.push({ commit, keys, bytes: commitBytes(commit), resolve, reject })
      queueMicrotask(() => this.#send())
    })
  }

  #send(): void {
    while (this.#inFlight < IN_FLIGHT) {
      const batch = this.#takeBatch()
      if (batch.length === 0) return
      this.#inFlight++
      this.#write(batch).finally(() => {
        this.#inFlight--
        this.#send()
      })
    }
  }

  /** Commits in order, none of which guards or puts what another one in the write puts. */
  #takeBatch(): Waiting[] {
    const batch: Waiting[] = []
    const put = new Set<string>()
    const touched = new Set<string>()
    let bytes = 0
    while (this.#waiting.length > 0 && batch.length < WRITE_COMMITS) {
      const next = this.#waiting[0]
      if (batch.length > 0 && bytes + next.bytes > WRITE_BYTES) break
      const meets =
        [...next.keys].some((key) => put.has(key)) || next.commit.put.some(({ key }) => touched.has(key))
      if (meets) break
      for (const { key } of next.commit.put) put.add(key)
      for (const key of next.keys) touched.add(key)
      bytes += next.bytes
      batch.push(next)
      this.#waiting.shift()
    }
    return batch
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    try {
      const endpoint = await this.#endpoint()
      const response = await this.#answer(
        endpoint,
        endpoint.txn(request(batch.map((each) => each.commit)), CALL_MS),
      )
      for (const [i, result] of results(
        response,
        batch.map((each) => each.commit),
      ).entries())
        batch[i].resolve(result)
    } catch (error) {
      for (const each of batch) each.reject(asLedgerError(error))
    }
  }

  /** The member in use, ready and of a version that keeps its promises; another one where it is not. */
  async #endpoint(): Promise<EtcdEndpoint> {
    let last: unknown
    for (let tries = 0; tries < this.#endpoints.length; tries++) {
      if (this.#closing.signal.aborted) throw new LedgerUnavailable('closed', 'the ledger is closed')
      const endpoint = this.#endpoints[this.#current]
      try {
        await endpoint.ready(READY_MS)
        if (!this.#checked.has(endpoint)) await this.#checkVersion(endpoint)
        return endpoint
      } catch (error) {
        last = error
        this.#leave(endpoint)
      }
    }
    if (last instanceof LedgerUnavailable) throw last
    throw new LedgerUnavailable('no-quorum', 'no member of the ledger can be reached')
  }

  async #checkVersion(endpoint: EtcdEndpoint): Promise<void> {
    const { version } = await endpoint.status(CALL_MS)
    if (!versionIsRight(version)) {
      throw new LedgerUnavailable(
        'no-quorum',
        `etcd ${version} can answer stale reads: use 3.5.33, 3.6.14, 3.7.1 or later`,
      )
    }
    this.#checked.add(endpoint)
  }

  #leave(endpoint: EtcdEndpoint): void {
    if (this.#endpoints[this.#current] === endpoint)
      this.#current = (this.#current + 1) % this.#endpoints.length
  }

  /** Leaves a member whose call failed, or whose term is behind one that was seen: it may not know of its successor. */
  async #answer<T extends { header: { raft_term: string } }>(
    endpoint: EtcdEndpoint,
    answer: Promise<T>,
  ): Promise<T> {
    try {
      const response = await answer
      const term = BigInt(response.header.raft_term)
      if (term < this.#term) throw new EtcdError('the answer is of an older term', 'unknown')
      this.#term = term
      return response
    } catch (error) {
      this.#leave(endpoint)
      throw error
    }
  }

  async read(key: string): Promise<Found> {
    const { kvs } = await this.#range({ key: Buffer.from(key, 'latin1') })
    return kvs.length === 0 ? { key, revision: 0, value: null } : { key, ...live(kvs[0]) }
  }

  async head(): Promise<number> {
    const { header } = await this.#range({ ...ALL, limit: 1, keys_only: true })
    return fromEtcd(header.revision)
  }

  /** A read may be sent to one member after the other: it changes nothing. */
  async #range(query: object): Promise<Awaited<ReturnType<EtcdEndpoint['range']>>> {
    let last: unknown
    for (let tries = 0; tries < this.#endpoints.length; tries++) {
      const endpoint = await this.#endpoint()
      try {
        return await this.#answer(endpoint, endpoint.range(query, CALL_MS / this.#endpoints.length))
      } catch (error) {
        last = error
      }
    }
    if (last instanceof EtcdError) throw new LedgerUnavailable('no-quorum', last.message)
    throw last
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    const endpoint = await this.#endpoint()
    const stream = endpoint.watch()
    stream.on('error', () => undefined) // the loop below hears of it; after the loop nobody has to
    const stop = (): void => stream.cancel()
    const stopped = AbortSignal.any([this.#closing.signal, ...(signal ? [signal] : [])])
    if (stopped.aborted) return stop()
    stopped.addEventListener('abort', stop, { once: true })
    try {
      stream.write({ create_request: { ...ALL, start_revision: String(after + 2), fragment: true } })
      yield* revisions(after, stream as AsyncIterable<WatchResponse>)
      throw new LedgerUnavailable('no-quorum', 'the stream of revisions ended')
    } catch (error) {
      if (stopped.aborted) return
      this.#leave(endpoint)
      if (error instanceof Compacted || error instanceof LedgerUnavailable) throw error
      throw new LedgerUnavailable('no-quorum', 'the stream of revisions broke')
    } finally {
      stopped.removeEventListener('abort', stop)
      stream.cancel()
    }
  }

  async snapshot(): Promise<{ revision: number; entries: AsyncIterable<SnapshotEntry> }> {
    const first = await this.#range({ ...ALL, limit: PAGE_ENTRIES })
    const revision = first.header.revision
    const range = (query: object): Promise<typeof first> => this.#range(query)
    async function* entries(): AsyncIterable<SnapshotEntry> {
      for (let page = first; ; ) {
        for (const kv of page.kvs) yield { key: kv.key.toString('latin1'), ...live(kv) }
        const last = page.kvs.at(-1)
        if (!page.more || !last) return
        page = await range({
          key: Buffer.concat([last.key, Buffer.of(0)]),
          range_end: ALL.range_end,
          limit: PAGE_ENTRIES,
          revision,
        })
      }
    }
    return { revision: fromEtcd(revision), entries: entries() }
  }

  async problems(): Promise<readonly string[]> {
    try {
      await this.head()
      return []
    } catch (error) {
      return [error instanceof Error ? error.message : 'the ledger cannot be asked']
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    for (const each of this.#waiting.splice(0))
      each.reject(new LedgerUnavailable('closed', 'the ledger is closed'))
    for (const endpoint of this.#endpoints) endpoint.close()
  }
}

function fromEtcd(revision: string): number {
  return Number(revision) - 1
}

function live(kv: KeyValue): { revision: number; value: Uint8Array } {
  return { revision: fromEtcd(kv.mod_revision), value: kv.value }
}

const bytesOf = (key: string): Buffer => Buffer.from(key, 'latin1')

function txnOf({ if: guards, put }: Commit): object {
  return {
    compare: guards.map(({ key, revision }) => ({
      result: 'EQUAL',
      target: 'MOD',
      key: bytesOf(key),
      mod_revision: revision === 0 ? '0' : String(revision + 1),
    })),
    success: put.map(({ key, value }: LedgerPut) =>
      value === null
        ? { request_delete_range: { key: bytesOf(key) } }
        : { request_put: { key: bytesOf(key), value } },
    ),
    failure: guards.map(({ key }) => ({ request_range: { key: bytesOf(key) } })),
  }
}

/** One commit as it is, several as nested Txns under no condition. */
function request(commits: readonly Commit[]): object {
  if (commits.length === 1) return txnOf(commits[0])
  return { compare: [], success: commits.map((commit) => ({ request_txn: txnOf(commit) })), failure: [] }
}

function results(response: TxnResponse, commits: readonly Commit[]): CommitResult[] {
  const revision = fromEtcd(response.header.revision)
  const txns = commits.length === 1 ? [response] : response.responses.map((each) => each.response_txn)
  return commits.map((commit, i): CommitResult => {
    const txn = txns[i]
    if (txn?.succeeded) return { ok: true, revision }
    return { ok: false, revision, found: commit.if.map(({ key }, j) => foundOf(key, txn?.responses[j])) }
  })
}

function foundOf(key: string, response: ResponseOp | undefined): Found {
  const kv = response?.response_range?.kvs[0]
  return kv ? { key, ...live(kv) } : { key, revision: 0, value: null }
}

/** Whole revisions, dense from `after` on. A jump means that events were lost: only a snapshot helps then. */
async function* revisions(after: number, stream: AsyncIterable<WatchResponse>): AsyncIterable<Revision> {
  let last = after
  let events: WatchResponse['events'][number][] = []
  for await (const response of stream) {
    if (Number(response.compact_revision) > 0) throw new Compacted('the revisions asked for are gone')
    if (response.canceled)
      throw new LedgerUnavailable('no-quorum', response.cancel_reason || 'the watch was cancelled')
    events.push(...response.events)
    if (response.fragment) continue
    for (let from = 0; from < events.length; ) {
      const revision = fromEtcd(events[from].kv.mod_revision)
      let to = from
      while (to < events.length && fromEtcd(events[to].kv.mod_revision) === revision) to++
      if (revision > last + 1) throw new Compacted(`revisions after ${last} were lost`)
      if (revision === last + 1) {
        yield { revision, puts: events.slice(from, to).map(putOf) }
        last = revision
      }
      from = to
    }
    events = []
  }
}

function putOf({ type, kv }: WatchResponse['events'][number]): LedgerPut {
  return { key: kv.key.toString('latin1'), value: type === 'PUT' ? kv.value : null }
}

function asLedgerError(error: unknown): Error {
  if (error instanceof LedgerUnavailable) return error
  if (error instanceof EtcdError) {
    return error.executed === 'no'
      ? new LedgerUnavailable('no-quorum', error.message)
      : new UnknownOutcome(error.message)
  }
  return error instanceof Error ? error : new Error(String(error))
}
