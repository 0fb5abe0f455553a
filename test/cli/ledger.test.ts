// coffer ledger show: entries by revision, and never a value.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rowPages } from '../../src/cli/ledger/rows.ts'
import { Coffer } from '../../src/client/index.ts'
import { Deadline } from '../../src/clock.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { Folder, fine, init, NodeProcess, refused } from './cli.ts'

const VALUE = 'canary-7f3a'

test('entries of a node that runs: kinds, owner, name, epoch, node; filters; never a value', async () => {
  using folder = new Folder()
  const dir = folder.file('vault')
  const keys = await init(dir, '--owner', 'clinic-a', '--owner', 'clinic-b', '--port', '0')
  const show = ['ledger', 'show', '--config', folder.file('vault', 'n1.yaml')]
  assert.match(await refused(1, show), /no ledger/)
  await using node = await NodeProcess.start(folder.file('vault', 'n1.yaml'))
  const client = new Coffer({ urls: [node.url], key: keys['clinic-a'] })
  await client.createSecret('db/password', VALUE)
  await client.tokenize([VALUE, 'b', 'c'])
  client.close()
  const text = await fine([...show, '--json'])
  assert.doesNotMatch(text, /canary/)
  const rows = text.split('\n').map((line) => JSON.parse(line))
  const revisions = rows.map(({ revision }) => revision)
  assert.deepEqual(
    revisions,
    revisions.toSorted((a, b) => a - b),
  )
  assert.ok(rows.every((row) => row.node === 'n1' && row.bytes > 0))
  const of = (kind: string) => rows.find((row) => row.kind === kind)
  assert.equal(of('version').name, 'db/password')
  assert.deepEqual([of('segment').owner, of('segment').epoch, of('segment').mappings], ['clinic-a', 1, 3])
  assert.match(await fine(show), /version +clinic-a +db\/password@1 +n1 +\d+$/m)
  assert.doesNotMatch(await fine([...show, '--owner', 'clinic-b']), /clinic-a/)
  const later = await fine([...show, '--json', '--since', String(of('segment').revision)])
  assert.ok(later.split('\n').every((line) => JSON.parse(line).revision >= of('segment').revision))
})

test('pages: every entry once and in order; foreign and damaged entries are told by their keys', async () => {
  using folder = new Folder()
  const ledger = new LmdbLedger(folder.path)
  const keys = Array.from({ length: 25 }, (_, i) => `foreign/${String((i * 7) % 25).padStart(2, '0')}`)
  for (const key of [...keys, 'genesis'])
    await ledger.commit({ if: [], put: [{ key, value: Buffer.from('{') }] }, Deadline.never)
  const names: (string | undefined)[] = []
  const pages: number[] = []
  for await (const rows of rowPages({ ledger, since: 2, owner: undefined, pageRows: 4 })) {
    pages.push(rows.length)
    for (const { kind, name } of rows) names.push(kind === 'foreign' ? name : `${kind} ${name}`)
  }
  await ledger.close()
  assert.deepEqual(names, [...keys.slice(1), 'damaged genesis'])
  assert.ok(pages.every((rows) => rows <= 4))
})
