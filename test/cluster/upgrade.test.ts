// Vaults of three nodes that earlier versions have written: of the present format everything is read back at every node,
// another format is refused.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { isFree } from '../../src/cli/demo/ports.ts'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'
import { Folder, fine, refused, until } from '../cli/cli.ts'
import { checkKept } from '../upgrade/check.ts'
import { CLUSTER_PORT, expected, unpack } from '../upgrade/fixture.ts'

const LONG_MS = 120_000
const PORTS = [0, 10, 20].flatMap((node) => [0, 1, 2].map((i) => CLUSTER_PORT + node + i))

/** The members have their ports in their data, so only one such vault runs on a machine. */
function portsAreFree(): Promise<true> {
  const look = async (): Promise<boolean> => (await Promise.all(PORTS.map(isFree))).every(Boolean)
  return until(`the ports from ${CLUSTER_PORT} are free`, look, LONG_MS) as Promise<true>
}

test('three nodes that were stopped with the present format go on, and hold the same', async () => {
  using folder = new Folder()
  unpack(LEDGER_FORMAT, 'cluster', folder.path)
  await fine(['init', folder.path, '--renew']) // certificates end, fixtures do not
  await portsAreFree()
  try {
    const { nodes } = JSON.parse(await fine(['cluster', 'start', folder.path, '--json'], { ms: LONG_MS }))
    const urls = nodes.map(({ url }: { url: string }) => url)
    assert.equal(urls.length, 3)
    await checkKept(urls, expected(LEDGER_FORMAT).cluster)
    for (const node of ['n1', 'n2', 'n3'])
      assert.doesNotMatch(readFileSync(folder.file('run', `${node}.log`), 'utf8'), /set aside/)
  } finally {
    await fine(['cluster', 'stop', folder.path], { ms: LONG_MS })
  }
})

test('three nodes of format 1 are refused with the reason', async () => {
  using folder = new Folder()
  unpack(1, 'cluster', folder.path)
  await fine(['init', folder.path, '--renew'])
  await portsAreFree()
  try {
    const told = await refused(1, ['cluster', 'start', folder.path], { ms: LONG_MS })
    assert.match(
      told,
      /the ledger has format 1, written by an earlier version; this version reads format 2 only: go on/,
    )
    // The first node that ends takes its member along: the others may then lack a quorum to read the genesis.
    const logs = ['n1', 'n2', 'n3'].map((node) => readFileSync(folder.file('run', `${node}.log`), 'utf8'))
    assert.match(logs.join(''), /coffer: the ledger has format 1/)
  } finally {
    await fine(['cluster', 'stop', folder.path], { ms: LONG_MS })
  }
})
