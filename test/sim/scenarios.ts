// Bugs of disks, processes, members and commands, as the code was: no world can meet these. Each is looked for by a test
// that holds today, and that must fail once the old text takes its place, in the process of the test and in all processes
// that the test starts (scenario-preload.ts).

import { SIZED_BY_THE_PAGE_BEFORE } from './planted.ts'
import type { Change } from './planting.ts'

export type Scenario = {
  /** The file of the test. */
  readonly test: string
  /** The tests of the file that are run: a part of their names. Undefined: all. */
  readonly only?: string
  /** In what the test says of its failure. */
  readonly found: RegExp
  readonly changes: readonly Change[]
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'a page sized by the page before (A2)': {
    test: 'src/ledger/etcd-snapshot.test.ts',
    only: 'small entries, then large entries',
    found: /\d+ bytes|larger than/,
    changes: SIZED_BY_THE_PAGE_BEFORE,
  },
  'a restore that runs all members by itself (A4)': {
    test: 'test/cluster/restore-alone.test.ts',
    found: /the file is not a backup/,
    changes: [
      { file: 'cli/restore.ts', from: 'nodes.filter((node) => !memberRunsAlone(node))', to: 'nodes' },
    ],
  },
  'a catch-up bounded by revisions only, and by many (A7)': {
    test: 'test/cluster/driver.test.ts',
    only: 'more than 500 revisions behind',
    found: /Missing expected rejection/,
    changes: [{ file: 'ledger/etcd.ts', from: '{ most: 500,', to: '{ most: 3072,' }],
  },
  'a queue that is not bounded by bytes (A7)': {
    test: 'src/replica/queue.test.ts',
    only: 'the reader waits while more than',
    found: /true !== false/,
    changes: [
      {
        file: 'replica/queue.ts',
        from: 'const QUEUE_BYTES = 8 * 1024 * 1024\n',
        to: 'const QUEUE_BYTES = Number.POSITIVE_INFINITY\n',
      },
    ],
  },
  'pages that count all keys behind them (A8)': {
    test: 'src/ledger/etcd-snapshot.test.ts',
    only: 'each key is read once, and costs no more than a few visits',
    found: /visits for \d+ keys/,
    changes: [
      {
        file: 'ledger/etcd-snapshot.ts',
        from: '      if (Number(count) > BLOCK_PAGES * this.#limit) this.#narrow(kvs)\n',
        to: '',
      },
    ],
  },
  'what a snapshot has ahead grows with every part (A8)': {
    test: 'src/state/segment-ranges.test.ts',
    found: /strictly deep-equal/,
    changes: [
      {
        file: 'state/segment-ranges.ts',
        from: '[...ahead.filter((each) => each.to > to), { to, revision }]',
        to: '[...ahead, { to, revision }]',
      },
    ],
  },
  'a checkpoint that fails keeps the disk full (A9)': {
    test: 'src/replica/checkpoint.test.ts',
    only: 'a checkpoint that fails leaves no file',
    found: /strictly deep-equal/,
    changes: [
      {
        file: 'replica/checkpoint-directory.ts',
        from: '      await rm(temporary, { force: true })\n      throw error\n',
        to: '      throw error\n',
      },
    ],
  },
  'a replica set aside stays for ever (A9)': {
    test: 'test/node/clean-stop.test.ts',
    only: 'a replica damaged after',
    found: /replicas set aside are removed/,
    changes: [
      {
        file: 'server/ready.ts',
        from: '    const removed = removeSetAside(config)\n',
        to: '    const removed = config.data === undefined ? removeSetAside(config) : []\n',
      },
    ],
  },
  'a member that is ready is replaced without a question (A10)': {
    test: 'test/cluster/members.test.ts',
    only: 'a copied configuration does not take',
    found: /0 !== 1/,
    changes: [{ file: 'cli/member.ts', from: '    if (!force) await refuseReady(node, found)\n', to: '' }],
  },
  'a file replaced without a sync of its directory (A12)': {
    test: 'src/files.test.ts',
    only: 'content, mode and order',
    found: /strictly deep-equal/,
    changes: [{ file: 'files.ts', from: '      syncPath(dirname(this.#target), operations)\n', to: '' }],
  },
  'a write that takes a part counts as whole (A12, B1)': {
    test: 'src/files.test.ts',
    only: 'a system that writes less than asked',
    found: /the new content/,
    changes: [
      {
        file: 'files.ts',
        from: '    position += written\n',
        to: '    position += Math.max(written, bytes.length)\n',
      },
      {
        file: 'files.ts',
        from: "  if (!found.digest().equals(written)) throw new Error('the file does not read back as it was written')\n",
        to: '',
      },
    ],
  },
  'an empty mark of a member ends every start (A12)': {
    test: 'src/node/member-directory.test.ts',
    only: 'a mark that cannot be read: a warning',
    found: /JSON/,
    changes: [
      {
        file: 'node/member-directory.ts',
        from: '  } catch {\n    return undefined\n  }\n  const { token',
        to: '  } catch (error) {\n    throw error\n  }\n  const { token',
      },
    ],
  },
  'a check that was killed counts as damage (A13)': {
    test: 'src/replica/check.test.ts',
    only: 'could not be checked, and nothing was touched',
    found: /Missing expected rejection/,
    changes: [
      {
        file: 'replica/check.ts',
        from: '  if (reading && end.code === DAMAGED) return { whole: false, reason: lastLine(said) }\n',
        to: '  if (reading || end.code !== 0) return { whole: false, reason: lastLine(said) }\n',
      },
    ],
  },
  // The worlds did not find the next four at first: an operator never went back, no start was late, and two nodes seldom
  // rewrapped at once.
  'a rewrap that root keys go back from: a commit of the rewrap comes late': {
    test: 'src/secrets/keeping.test.ts',
    only: 'a rewrap goes back',
    found: /root key/,
    changes: [
      {
        file: 'keys/rewrap.ts',
        from: "old.kind === 'genesis' ? [guard] : [guard, replica.wrapGuard]",
        to: '[guard]',
      },
    ],
  },
  'a rewrap with nothing to do refuses nothing that is late': {
    test: 'src/secrets/keeping.test.ts',
    only: 'a root key is active again for a while',
    found: /1 !== 2/,
    changes: [
      {
        file: 'keys/rewrap.ts',
        from: '  if (!ring.ids.includes(genesis.rootKey)) return 0\n',
        to: '  if (genesis.rootKey === ring.active || !ring.ids.includes(genesis.rootKey)) return 0\n',
      },
    ],
  },
  'a rewrap is known by the writer, which another rewrap has, too': {
    test: 'src/secrets/keeping.test.ts',
    only: 'a version that another node has wrapped anew',
    found: /the genesis/,
    changes: [
      {
        file: 'replica/commit.ts',
        from: 'creates ? hasWriter(decodeWriter(value)) : hasBytes(value)',
        to: 'hasWriter(decodeWriter(value))',
      },
    ],
  },
  'a rewrap gives an epoch key another writer, and a rotation does not know its own commit': {
    test: 'src/tokens/tokens.test.ts',
    only: 'a rotation whose answer is lost while its key is wrapped anew',
    found: /the active epoch is 3/,
    changes: [{ file: 'keys/rewrap.ts', from: 'decodeWriter(found.value)', to: 'replica.nextWriter()' }],
  },
  'a ledger put back behind the cursor, and before what it has accepted': {
    test: 'src/replica/commit.test.ts',
    only: 'accepted and is not applied yet',
    found: /Missing expected rejection/,
    changes: [
      {
        file: 'replica/follow.ts',
        from: '    if (revision > this.#accepted.revision) this.#accepted = { key, revision }\n',
        to: '',
      },
    ],
  },
  'a start that died comes late, and takes the place of the node entry': {
    test: 'src/server/announce.test.ts',
    found: /true !== false/,
    changes: [
      {
        file: 'server/announce.ts',
        from: 'if: [{ key, revision: 0 }, node], put',
        to: 'if: [{ key, revision: 0 }], put',
      },
    ],
  },
  'seen before flushed': {
    test: 'src/ledger/flush.test.ts',
    found: /came when its pages were/,
    changes: [
      {
        file: 'ledger/lmdb.ts',
        from: '      overlappingSync: false,\n',
        to: '      overlappingSync: false,\n      noSync: true,\n',
      },
    ],
  },
  'a transaction that is written to a full disk': {
    test: 'src/ledger/lmdb.test.ts',
    only: 'LMDB never meets a full disk',
    found: /Input\/output error/,
    changes: [
      {
        file: 'ledger/lmdb-room.ts',
        from: 'free < Math.max(reserve, neededBytes(transaction))',
        to: 'free < reserve',
      },
    ],
  },
  'a Txn that reads at a revision, as in etcd#18667': {
    test: 'src/ledger/etcd-messages.test.ts',
    only: 'no Txn reads at a revision',
    found: /revision/,
    changes: [
      {
        file: 'ledger/etcd-messages.ts',
        from: '({ request_range: { key: keyBytes(key) } })),\n',
        to: "({ request_range: { key: keyBytes(key), revision: '1' } })),\n",
      },
    ],
  },
}
