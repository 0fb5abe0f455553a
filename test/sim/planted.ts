// Bugs that are planted in the code of the product, as the code was, or as the code could be (planting.ts), and that worlds
// can meet.

import type { Change } from './planting.ts'

export type Planted = {
  readonly changes: readonly Change[]
  /** The world's way to the ledger, of WAYS. */
  readonly world?: 'pages'
  readonly found: RegExp
}

export const SIZED_BY_THE_PAGE_BEFORE: readonly Change[] = [
  {
    file: 'ledger/etcd-snapshot.ts',
    from: 'Math.min(PAGE_ENTRIES, Math.max(1, Math.floor(PAGE_BYTES / range.largest)))',
    to: 'PAGE_ENTRIES',
  },
  { file: 'ledger/etcd-snapshot.ts', from: '  let limit = most\n', to: '  let limit = 64\n' },
  {
    file: 'ledger/etcd-snapshot.ts',
    from: 'Math.min(most, limit + Math.ceil(limit / 8))',
    to: 'Math.min(most, Math.max(1, Math.floor((PAGE_BYTES * page.kvs.length) / bytesIn(page))))',
  },
  {
    file: 'ledger/etcd-snapshot.ts',
    from: '        if (!isTooLarge(error)) throw error\n',
    to: '        throw error\n',
  },
  {
    file: 'ledger/etcd-snapshot.ts',
    from: '/** The next page is fetched while a page is used. */\n',
    to: 'const bytesIn = ({ kvs }) => kvs.reduce((sum, { value }) => sum + value.length, 1)\n',
  },
]

export const PLANTED: Readonly<Record<string, Planted>> = {
  'no barrier': {
    changes: [
      {
        file: 'replica/barrier.ts',
        from: '    this.#asking.add(caller)\n    this.#sendNext()\n    return promise\n',
        to: '    endWatch()\n    return Promise.resolve(caller && undefined)\n',
      },
    ],
    found: /laws? \d/,
  },
  'a barrier joined after it was sent': {
    changes: [
      {
        file: 'replica/barrier.ts',
        from: '      for (const caller of callers) answer(caller)\n',
        to: `      for (const caller of [...callers, ...this.#asking]) answer(caller)
      this.#asking.clear()
`,
      },
    ],
    found: /laws? \d/,
  },
  'a segment joined after it was sent, as a proof of the epoch': {
    changes: [
      {
        file: 'tokens/issue.ts',
        from: "      if (commit.stage !== 'waiting') continue\n      proves = true\n",
        to: "      proves = true\n      if (commit.stage !== 'waiting') continue\n",
      },
    ],
    found: /laws? \d/,
  },
  'a sent segment that nobody waits for': {
    changes: [
      {
        file: 'tokens/issue.ts',
        from: "        if (pending.stage !== 'accepted') joined.add(pending)\n",
        to: "        if (pending.stage === 'waiting') joined.add(pending)\n",
      },
    ],
    found: /laws? \d/,
  },
  'receipts that a snapshot has not brought stay': {
    changes: [
      {
        file: 'replica/follow.ts',
        from: '    await this.#removeUnseen(revision)\n',
        to: '    if (revision < 0) await this.#removeUnseen(revision)\n',
      },
      { file: 'state/step.ts', from: "    if (snapshot === 'whole') this.#removeUnseen(revision)\n", to: '' },
    ],
    found: /law 5/,
  },
  'the last mapping wins, and counts as new': {
    changes: [
      {
        file: 'replica/table.ts',
        from: 'slots[s + 2] === w2 && slots[s + 3] === w3) return false\n',
        to: `slots[s + 2] === w2 && slots[s + 3] === w3) {
      slots[s + 4] = page
      slots[s + 5] = slot + 1
      return true
    }
`,
      },
    ],
    found: /./,
  },
  'the latest version without a barrier, as a stale standby of OpenBao': {
    changes: [
      {
        file: 'secrets/secrets.ts',
        from: '    if (!here) await this.#replica.barrier(deadline)\n',
        to: '    if (deadline === undefined) await this.#replica.barrier(deadline)\n',
      },
    ],
    found: /law/,
  },
  'two writers of the cursor: a checkpoint records itself (A1)': {
    changes: [
      {
        file: 'replica/apply.ts',
        from: '      this.#handed = checkpoint\n      durable()\n',
        to: `      const none = { pages: [], entries: [], records: [], tables: [], ranges: [], owners: [] }
      void this.#store.write({ ...none, meta: { ...this.state.meta, checkpoint } }).catch(() => undefined)
      void durable
`,
      },
    ],
    found: /./,
  },
  'a deadline for each step of a write (A6)': {
    changes: [
      {
        file: 'tokens/issue.ts',
        from: '      segment.deadline,\n    )\n    if (!result.ok)',
        to: '      new Deadline({ monotonic: () => performance.now() }, 4000),\n    )\n    if (!result.ok)',
      },
      {
        file: 'tokens/issue.ts',
        from: '  if (inTime) return all(segments)\n',
        to: '  if (inTime || deadline) return all(segments)\n',
      },
      {
        file: 'tokens/issue.ts',
        from: '    this.#endWatch = deadline.onPass(this.#leave)\n',
        to: '',
      },
    ],
    found: /law 7/,
  },
  'known values without a proof of their epoch': {
    changes: [
      {
        file: 'tokens/tokens.ts',
        from: 'if (there && !proves) await this.#replica.barrier(time)\n',
        to: 'if (there && !proves && time === undefined) await this.#replica.barrier(time)\n',
      },
    ],
    found: /laws? \d/,
  },
  'only segments and boots are witnesses (A3)': {
    changes: [
      { file: 'state/witness.ts', from: "  epoch: ['epoch'],\n", to: '  epoch: [],\n' },
      { file: 'state/witness.ts', from: "  key: ['key', 'newest-key'],\n", to: '  key: [],\n' },
      {
        file: 'state/witness.ts',
        from: "  version: ['version', 'newest-version'],\n",
        to: '  version: [],\n',
      },
    ],
    found: /another ledger/,
  },
  'one verdict for all connections (A11)': {
    changes: [
      {
        file: 'replica/follow.ts',
        from: '      this.#refused = this.#following ? undefined : mismatch\n',
        to: `      this.#refused = this.#following ? undefined : mismatch
      this.mismatch ??= mismatch
`,
      },
    ],
    found: /not done/,
  },
  'a list of names without a barrier': {
    changes: [
      {
        file: 'secrets/secrets.ts',
        from: `Promise<string[]> {
    await this.#replica.barrier(deadline)
`,
        to: `Promise<string[]> {
    if (deadline.passed) await this.#replica.barrier(deadline)
`,
      },
    ],
    found: /a list lacks/,
  },
  'a reload waits for the work of the reload before (A5)': {
    changes: [
      {
        file: 'server/reload.ts',
        from: '    putOwners(node, sources.owners())\n',
        to: '    void node.background.idle.then(() => putOwners(node, sources.owners()))\n',
      },
      {
        file: 'server/background.ts',
        from: '  /** Ends the task in progress. */\n',
        to: '  get idle() {\n    return this.#done\n  }\n\n',
      },
      { file: 'server/background.ts', from: '    this.#superseded.abort()\n    const', to: '    const' },
      {
        file: 'server/background.ts',
        from: 'unlessAborted(work(signal), signal).catch',
        to: 'this.#done.then(() => unlessAborted(work(signal), signal)).catch',
      },
    ],
    found: /a key was allowed/,
  },
  'a quota as of the start': {
    changes: [
      {
        file: 'server/running-node.ts',
        from: '  node.ownersHash = ownersHash(owners)\n  node.quotas = quotasOf(owners)\n',
        to: '  node.ownersHash = ownersHash(owners)\n',
      },
    ],
    found: /a quota/,
  },
  'a key without its end': {
    changes: [
      {
        file: 'http/auth.ts',
        from: 'caller?.until !== undefined && this.#clock.now() >= caller.until',
        to: 'caller?.until === 0',
      },
    ],
    found: /a key was allowed/,
  },
  'a rewrap, and a count of wrapped keys, without the keys of secrets': {
    changes: [
      {
        file: 'keys/rewrap.ts',
        from: '    for (const [rootKey, count] of this.#state.dataKeys) {\n',
        to: '    for (const [rootKey, count] of new Map<string, number>()) {\n',
      },
      {
        file: 'keys/rewrap.ts',
        from: '[receiptAndEpochKeys(state), dataKeys(state)]',
        to: '[receiptAndEpochKeys(state)]',
      },
    ],
    found: /root key|not done/,
  },
  'a stream that resumes past a gap, as the watcher of npm etcd3': {
    changes: [
      {
        file: 'replica/follow.ts',
        from: '        const failure = error instanceof Compacted ? await this.#tryResync() : error\n',
        to: `        const failure = error
        if (error instanceof Compacted) {
          this.#read = this.head
          await this.#pause()
          continue
        }
`,
      },
      {
        file: 'replica/queue.ts',
        from: 'assert(revision.revision === last.revision + 1,',
        to: 'assert(revision.revision > last.revision,',
      },
      {
        file: 'state/step.ts',
        from: 'assert(revision.revision === this.#cursor + 1,',
        to: 'assert(revision.revision > this.#cursor,',
      },
    ],
    found: /./,
  },
  'a page sized by the page before, with all bounds at 1:64 (A2)': {
    world: 'pages',
    changes: [
      { file: 'ledger/etcd-snapshot.ts', from: '= 16 * 1024 * 1024\n', to: '= 256 * 1024\n' },
      { file: 'ledger/etcd-snapshot.ts', from: 'PAGE_ENTRIES = 8192\n', to: 'PAGE_ENTRIES = 128\n' },
      ...SIZED_BY_THE_PAGE_BEFORE,
    ],
    found: /not done/,
  },
  'an instant that is no part of the interval that it begins': {
    changes: [{ file: 'secrets/intervals.ts', from: '.validFrom <= at)', to: '.validFrom < at)' }],
    found: /valid at the instant|reference/,
  },
  'references without a barrier': {
    changes: [
      {
        file: 'secrets/secrets.ts',
        from: '    if (!refs.every(here)) await this.#replica.barrier(deadline)\n',
        to: '    if (refs.length === 0 && !refs.every(here)) await this.#replica.barrier(deadline)\n',
      },
    ],
    found: /reference/,
  },
  'one clock far ahead harms all secrets of an owner (C11)': {
    changes: [
      {
        file: 'secrets/secrets.ts',
        from: 'const FOLLOWED_AHEAD_MS = 60_000\n',
        to: 'const FOLLOWED_AHEAD_MS = Number.POSITIVE_INFINITY\n',
      },
    ],
    found: /in the future/,
  },
}
