// Damaged, older and missing files of a node, with the way back that the documents name.
import assert from 'node:assert/strict'
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../src/clock.ts'
import { issueCertificate } from '../../src/node/certificates.ts'
import { fine, until } from '../cli/cli.ts'
import type { ClusterNode } from '../cluster/cluster.ts'
import type { Fault, Stage } from './stage.ts'

const REPLACE_MS = 120_000
const PAGE = 4096
const YEARS_2_MS = 2 * 365 * 24 * 60 * 60 * 1000

const dataOf = (stage: Stage, { name }: ClusterNode): string => join(stage.cluster.dir, name)

/** Overwrites pages at random places between two parts of the file. */
function scribble(stage: Stage, file: string, pages: number): void {
  const bytes = readFileSync(file)
  for (let i = 0; i < pages; i++) {
    const at = stage.random.below(Math.max(1, Math.floor(bytes.length / PAGE))) * PAGE
    for (let j = at; j < Math.min(at + PAGE, bytes.length); j++) bytes[j] = stage.random.below(256)
  }
  writeFileSync(file, bytes)
}

async function whileDown(stage: Stage, work: (data: string, node: ClusterNode) => unknown): Promise<void> {
  const node = stage.anyNode()
  await node.kill()
  await stage.goOn(20)
  await work(dataOf(stage, node), node)
  await stage.cluster.startAll()
}

/** A replica of some minutes ago, if there is one yet, and the one of now for later. */
function olderReplica(data: string): void {
  const [now, older] = [join(data, 'replica'), `${data}.older-replica`]
  const next = `${older}.next`
  cpSync(now, next, { recursive: true })
  if (existsSync(older)) {
    rmSync(now, { recursive: true })
    cpSync(older, now, { recursive: true })
    rmSync(older, { recursive: true })
  }
  renameSync(next, older)
}

/** The member's data is no longer to be trusted: removed, and replaced by the others' as operating.md says. */
async function replaced(data: string, node: ClusterNode): Promise<void> {
  rmSync(join(data, 'etcd'), { recursive: true })
  await fine(['member', 'replace', node.name, '--config', node.config], { ms: REPLACE_MS })
}

/** etcd finds the damage itself, and does not serve. */
async function refusesToServe(node: ClusterNode): Promise<void> {
  await node.begin()
  const ended = (): boolean => (node.process?.log ?? []).some((text) => /the member has ended/.test(text))
  await until(`the member of ${node.name} refuses the damaged file`, ended, 30_000)
  await node.kill()
}

async function damagedWal(stage: Stage, data: string, node: ClusterNode): Promise<void> {
  const wal = join(data, 'etcd/member/wal')
  const [file] = readdirSync(wal)
    .filter((name) => name.endsWith('.wal'))
    .sort()
  const path = join(wal, file)
  const bytes = readFileSync(path)
  const begin = 64 + stage.random.below(200)
  for (let at = begin; at < begin + 64; at++) bytes[at] ^= 0x55
  writeFileSync(path, bytes)
  await refusesToServe(node)
  await replaced(data, node)
}

/** All members go back to an earlier state: every node refuses, and goes on when the newest is back. */
async function olderLedger(stage: Stage): Promise<void> {
  const { nodes, clients } = stage
  const copy = (from: string, to: string): void => {
    for (const node of nodes) {
      const data = dataOf(stage, node)
      rmSync(`${data}${to}`, { recursive: true, force: true })
      cpSync(`${data}${from}`, `${data}${to}`, { recursive: true })
    }
  }
  const stop = (): Promise<unknown> => Promise.all(nodes.map((node) => node.kill()))
  await stop()
  copy('/etcd', '.older')
  await stage.cluster.startAll()
  await stage.goOn(100)
  await stop()
  copy('/etcd', '.newest')
  copy('.older', '/etcd')
  await Promise.all(nodes.map((node) => node.begin()))
  const refuses = async (node: ClusterNode): Promise<boolean> =>
    /ends at revision|does not hold/.test((await node.reasons()).join())
  for (const node of nodes) await until(`${node.name} refuses the older ledger`, () => refuses(node), 60_000)
  const { status, json } = await nodes[0].ask('/tokenize', { values: ['of another history'] })
  assert.deepEqual([status, json.type], [503, '/problems/ledger-changed'])
  await stop()
  copy('.newest', '/etcd')
  for (const each of nodes.map((node) => dataOf(stage, node)))
    for (const name of ['.older', '.newest']) rmSync(`${each}${name}`, { recursive: true })
  await stage.cluster.startAll()
  assert.ok(clients.done > 0)
}

/** A node whose certificate has ended has no ledger; `coffer init --renew` helps. */
async function endedCertificate(stage: Stage, node: ClusterNode): Promise<void> {
  const { dir } = stage.cluster
  const file = (name: string): string => join(dir, 'tls', name)
  const authority = { cert: readFileSync(file('ca.crt'), 'utf8'), key: readFileSync(file('ca.key'), 'utf8') }
  const past: Clock = { ...systemClock, now: () => systemClock.now() - YEARS_2_MS - 60_000 }
  const { cert, key } = await issueCertificate(authority, { node: node.name }, past)
  writeFileSync(file(`${node.name}.crt`), cert)
  writeFileSync(file(`${node.name}.key`), key)
  await node.begin()
  const told = async (): Promise<boolean> =>
    (node.process?.told('a certificate has ended at') ?? 0) > 0 && (await node.reasons()).length > 0
  await until(`${node.name} names its certificate`, told, 30_000)
  await node.kill()
  await fine(['init', dir, '--renew'])
}

export const damage: readonly Fault[] = [
  {
    name: 'a damaged replica',
    run: (stage) => whileDown(stage, (data) => scribble(stage, join(data, 'replica/data.mdb'), 20)),
  },
  { name: 'an older replica', run: (stage) => whileDown(stage, (data) => olderReplica(data)) },
  {
    name: 'a missing replica',
    run: (stage) => whileDown(stage, (data) => rmSync(join(data, 'replica'), { recursive: true })),
  },
  {
    name: 'a damaged write-ahead log of a member',
    run: (stage) => whileDown(stage, (data, node) => damagedWal(stage, data, node)),
  },
  { name: 'missing data of a member', run: (stage) => whileDown(stage, replaced) },
  { name: 'an older ledger, and the newest back', run: olderLedger },
  {
    name: 'a certificate that has ended',
    run: (stage) => whileDown(stage, (_, node) => endedCertificate(stage, node)),
  },
]
