import assert from 'node:assert/strict'
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readBackup } from '../../src/backup/file.ts'
import { Coffer } from '../../src/client/index.ts'
import { Deadline, systemClock } from '../../src/clock.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import {
  backupOf,
  bytesOf,
  endFrame,
  entryOf,
  epoch,
  filled,
  framesOf,
  keyring,
  MAC_BYTES,
  put,
  writer,
} from '../backup/backups.ts'
import { coffer, Folder, fine, init, NodeProcess, refused, until } from './cli.ts'

const VALUES = Array.from({ length: 500 }, (_, i) => `value ${i}`)

/** The digest once the replica has applied all entries, and the ledger's identity. */
function statusOf(node: NodeProcess, key: string): Promise<{ digest: string; identity: string }> {
  return withClient(node, key, (client) =>
    until('the replica has caught up', async () => {
      const { ledger, replica } = await client.status()
      return replica.lag === 0 ? { digest: replica.digest, identity: ledger.identity } : undefined
    }),
  )
}

/** Two vaults, `old` and `new`, and their keys by owner. */
class Two extends Folder {
  readonly old = this.file('old', 'n1.yaml')
  readonly new = this.file('new', 'n1.yaml')
  readonly backup = this.file('vault.backup')
  keys: Readonly<Record<string, string>> = {}
  newKeys: Readonly<Record<string, string>> = {}

  static async make(): Promise<Two> {
    const two = new Two()
    const owners = ['--owner', 'a', '--owner', 'b', '--port', '0']
    two.keys = await init(two.file('old'), ...owners)
    two.newKeys = await init(two.file('new'), ...owners)
    return two
  }

  copyKeyring(): void {
    copyFileSync(this.file('old', 'keyring.json'), this.file('new', 'keyring.json'))
  }
}

/** Runs a node during `use`. */
async function withNode<T>(config: string, use: (node: NodeProcess) => Promise<T>): Promise<T> {
  await using node = await NodeProcess.start(config)
  const result = await use(node)
  assert.equal(await node.stop(), 0)
  return result
}

async function withClient<T>(
  node: NodeProcess,
  key: string,
  use: (client: Coffer) => Promise<T>,
): Promise<T> {
  const client = new Coffer({ urls: node.url, key })
  try {
    return await use(client)
  } finally {
    client.close()
  }
}

function tokenize(node: NodeProcess, key: string, values: readonly string[]): Promise<readonly string[]> {
  return withClient(node, key, async (client) => {
    const { tokens } = await client.tokenize(values)
    return tokens.map((token) => token ?? assert.fail('no value is null'))
  })
}

function detokenize(node: NodeProcess, key: string, tokens: readonly string[]): Promise<unknown> {
  return withClient(node, key, async (client) => (await client.detokenize(tokens)).values)
}

test('a running vault is backed up; the restored one has its tokens, under another identity', async () => {
  using two = await Two.make()
  const made = await withNode(two.old, async (node) => {
    const first = await tokenize(node, two.keys.a, VALUES)
    await withClient(node, two.keys.a, (client) => client.rotateEpoch(2))
    const second = await tokenize(node, two.keys.a, VALUES)
    const others = await tokenize(node, two.keys.b, VALUES)
    // Writes continue during the backup, so that most entries change or appear after its start.
    let done = false
    const load = (async () => {
      for (let i = 0; !done; i++) await tokenize(node, two.keys.b, [`load ${i}`])
    })()
    const busy = two.file('busy.backup')
    for (const force of [[], ['--force'], ['--force']])
      await fine(['backup', '-o', busy, '--config', two.old, ...force])
    done = true
    await load
    const told = JSON.parse(await fine(['backup', '-o', two.backup, '--config', two.old, '--json']))
    return { first, second, others, told, ...(await statusOf(node, two.keys.a)) }
  })
  const { told } = made
  assert.deepEqual(Object.keys(told), [
    'file',
    'revision',
    'entries',
    'mappings',
    'bytes',
    'digest',
    'identity',
  ])
  assert.deepEqual([told.digest, told.identity], [made.digest, made.identity])
  assert.equal(told.bytes, statSync(two.backup).size)
  assert.equal(statSync(two.backup).mode & 0o777, 0o600)
  two.copyKeyring()
  const restored = JSON.parse(await fine(['restore', two.backup, '--config', two.new, '--json']))
  const members = ['file', 'revision', 'made_at', 'entries', 'mappings', 'digest', 'identity']
  assert.deepEqual(Object.keys(restored), members)
  for (const name of ['revision', 'entries', 'mappings', 'digest']) assert.equal(restored[name], told[name])
  assert.notEqual(restored.identity, told.identity)
  await withNode(two.new, async (node) => {
    const { digest, identity } = await statusOf(node, two.newKeys.a)
    assert.deepEqual([digest, identity], [told.digest, restored.identity])
    for (const tokens of [made.first, made.second])
      assert.deepEqual(await detokenize(node, two.newKeys.a, tokens), VALUES)
    assert.deepEqual(await detokenize(node, two.newKeys.b, made.others), VALUES)
    assert.deepEqual(await tokenize(node, two.newKeys.a, VALUES), made.second)
    assert.deepEqual(await tokenize(node, two.newKeys.b, VALUES), made.others)
    assert.equal((await tokenize(node, two.newKeys.b, ['new']))[0].length, made.others[0].length)
  })
  // The backup made during the writes is complete, too, but of an earlier revision.
  renameSync(two.file('new', 'n1'), two.file('first'))
  await fine(['restore', two.file('busy.backup'), '--config', two.new])
  await withNode(two.new, async (node) => {
    assert.deepEqual(await detokenize(node, two.newKeys.a, made.second), VALUES)
  })
})

test('a backup of a stopped node is the same but for its head and its authentication code', async () => {
  using two = await Two.make()
  const backup = async (name: string): Promise<Buffer> => {
    const { code, stderr } = await coffer(['backup', '--out', two.file(name), '--config', two.old])
    assert.equal(code, 0, stderr)
    assert.doesNotMatch(stderr, /\r/, 'progress is for a terminal')
    return readFileSync(two.file(name))
  }
  await withNode(two.old, (node) => tokenize(node, two.keys.a, VALUES))
  const [one, other] = [await backup('one'), await backup('other')]
  const since = 16 + 9 + one.readUInt32BE(17)
  assert.equal(one.length, other.length)
  assert.ok(one.subarray(since, -32).equals(other.subarray(since, -32)))
})

test('what cannot be backed up is told, and no file is left', async () => {
  using two = await Two.make()
  const backup = ['backup', '-o', two.backup, '--config', two.old]
  assert.match(await refused(1, backup), /there is no ledger in .*old\/n1/)
  assert.match(
    await refused(1, ['backup', '-o', two.backup], { cwd: two.path }),
    /coffer-data\/n1\.yaml.*\n.*no such file/,
  )
  await refused(2, ['backup', '--config', two.old])
  await withNode(two.old, (node) => tokenize(node, two.keys.a, ['x']))
  writeFileSync(two.backup, 'mine')
  assert.match(await refused(1, backup), /exists already.*--force/)
  const unnamed = ['backup', '-o', `${two.file('nowhere')}/`, '--config', two.old]
  assert.match(await refused(1, unnamed), /names no file: name a file/)
  assert.equal(readFileSync(two.backup, 'utf8'), 'mine')
  await fine([...backup, '--force'])
  await refused(1, ['backup', '-o', two.file('nowhere', 'x'), '--config', two.old])
  const spoilt = new LmdbLedger(two.file('old', 'n1', 'ledger'))
  await spoilt.commit({ if: [], put: [{ key: 'epoch/c', value: Buffer.from('x') }] }, Deadline.never)
  await spoilt.close()
  assert.match(await refused(1, [...backup, '--force']), /an entry is shorter than its header/)
  const ledger = two.file('old', 'n1', 'ledger', 'data.mdb')
  writeFileSync(ledger, readFileSync(ledger).fill(7, 4096, 40_000))
  assert.match(await refused(1, [...backup, '--force']), /is damaged.*move it to another place/)
  assert.deepEqual(
    readdirSync(two.path).filter((name) => name.includes('backup')),
    ['vault.backup'],
  )
})

test('what cannot be restored is told before anything is written', async () => {
  using two = await Two.make()
  const restore = ['restore', two.backup, '--config', two.new]
  await refused(1, restore)
  await withNode(two.old, async (node) => {
    await tokenize(node, two.keys.a, VALUES)
    await fine(['backup', '-o', two.backup, '--config', two.old])
    assert.match(
      await refused(1, ['restore', two.backup, '--config', two.old]),
      new RegExp(`in use by process ${node.pid}: stop node n1 first`),
    )
  })
  assert.match(
    await refused(1, restore),
    /new\/keyring\.json cannot open the backup \(the keyring has no root key rk-[0-9a-f]{12}\): copy keyring\.json/,
  )
  two.copyKeyring()
  await refused(2, ['restore', '--config', two.new])
  assert.match(await refused(2, [...restore, two.old]), /names one node twice/)
  const whole = readFileSync(two.backup)
  const damaged = Buffer.from(whole)
  damaged[whole.length >> 1] ^= 1
  writeFileSync(two.backup, damaged)
  assert.match(await refused(1, restore), /vault\.backup: the backup is damaged: part \d+, at byte \d+,/)
  writeFileSync(two.backup, whole.subarray(0, -1))
  assert.match(await refused(1, restore), /vault\.backup: the backup is cut off after \d+ bytes/)
  writeFileSync(two.backup, withoutLastEntry(whole))
  assert.match(await refused(1, restore), /vault\.backup: the backup was changed: .*use another copy/)
  copyFileSync(join(import.meta.dirname, '../upgrade/format-1/node.backup'), two.backup)
  assert.match(await refused(1, restore), /vault\.backup: the backup has format 1, .*go on with the version/)
  copyFileSync(two.old, two.backup)
  assert.match(await refused(1, restore), /vault\.backup: the file is not a backup: name a file that/)
  writeFileSync(two.backup, whole)
  assert.ok(!existsSync(two.file('new', 'n1', 'ledger')))
  assert.match(
    await refused(1, ['restore', two.backup, '--config', two.old]),
    /not empty \(it holds .*move .*old\/n1\/ledger to another place/,
  )
  await fine(restore)
  assert.match(await refused(1, restore), /not empty/)
})

test('a root key that is missing for a part of a backup is told with the number of its keys', async () => {
  using two = await Two.make()
  const lost = newRootKey(systemClock)
  const ledger = await filled(1)
  const wrapped = keyring
    .add(lost)
    .activate(lost.id)
    .wrap(new Uint8Array(32), ['epoch', 'p', '1'], systemClock)
  const openedAt = '2026-01-01T00:00:00.000Z'
  const key = encodeEntry({ kind: 'key', owner: 'p', epoch: 1, wrapped, openedAt }, writer)
  await put(ledger, epoch('p', 1), [ledgerKey.wrappedKey('p', 1), key])
  writeFileSync(two.backup, (await backupOf(ledger)).bytes)
  writeFileSync(two.file('new', 'keyring.json'), keyring.serialize())
  const { code, stderr } = await coffer(['restore', two.backup, '--config', two.new])
  assert.equal(code, 0, stderr)
  assert.match(
    stderr,
    new RegExp(`new/keyring.json lacks root key ${lost.id}, which wraps 1 key of the backup`),
  )
  assert.equal(stderr.match(/lacks root key/g)?.length, 1)
})

/** All that can be computed without the keyring is computed again. */
function withoutLastEntry(backup: Buffer): Buffer {
  const frames = framesOf(backup)
  const entries = frames.slice(1, -2).map(entryOf)
  return Buffer.concat([bytesOf([...frames.slice(0, -2), endFrame(entries)]), backup.subarray(-MAC_BYTES)])
}

test('a restore that was not finished: no node starts, and the same restore again finishes it', async () => {
  using two = await Two.make()
  const tokens = await withNode(two.old, (node) => tokenize(node, two.keys.a, VALUES))
  await fine(['backup', '-o', two.backup, '--config', two.old])
  two.copyKeyring()
  // As if the restore had been killed before its last commit.
  const ledger = new LmdbLedger(two.file('new', 'n1', 'ledger'))
  const keyring = Keyring.parse(readFileSync(two.file('old', 'keyring.json'), 'utf8'))
  for await (const part of readBackup(pieces(readFileSync(two.backup)), keyring)) {
    if (part.kind === 'entry' && part.entry.key !== 'genesis')
      await ledger.commit({ if: [], put: [part.entry] }, Deadline.never)
  }
  await ledger.close()
  assert.match(await refused(1, ['start', '--config', two.new]), /a restore was not finished/)
  assert.match(
    await refused(1, ['backup', '-o', two.file('x'), '--config', two.new]),
    /a restore into it was not finished/,
  )
  await fine(['restore', two.backup, '--config', two.new])
  await withNode(two.new, async (node) => {
    assert.deepEqual(await detokenize(node, two.newKeys.a, tokens), VALUES)
  })
})

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
}

test('an older backup under the old replica: the node refuses it until that is reset', async () => {
  using two = await Two.make()
  const older = await withNode(two.old, (node) => tokenize(node, two.keys.a, VALUES))
  await fine(['backup', '-o', two.backup, '--config', two.old])
  const newer = await withNode(two.old, (node) => tokenize(node, two.keys.a, ['newer']))
  renameSync(two.file('old', 'n1', 'ledger'), two.file('moved'))
  const { code, stderr } = await coffer(['restore', two.backup, '--config', two.old])
  assert.equal(code, 0, stderr)
  assert.match(
    stderr,
    /node n1 has a replica of an earlier ledger: coffer replica reset --config .*old\/n1\.yaml/,
  )
  {
    await using node = NodeProcess.begin(two.old)
    await until('the advice', () => node.told('coffer replica reset') > 0)
    assert.equal(node.told('"msg":"ready"'), 0)
    assert.equal(await node.stop(), 0)
  }
  await fine(['replica', 'reset', '--config', two.old])
  await withNode(two.old, async (node) => {
    assert.deepEqual(await detokenize(node, two.keys.a, older), VALUES)
    assert.deepEqual(await detokenize(node, two.keys.a, newer), [null])
    assert.deepEqual(await tokenize(node, two.keys.a, ['newer']), newer)
  })
  await fine(['replica', 'verify', '--config', two.old])
})
