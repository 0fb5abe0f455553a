// The same last checks after every fault: all nodes are ready, everything acknowledged answers on each, all digests are
// equal, and neither data nor logs hold a value or an API key in clear. Throws Violation.
import { spawnSync } from 'node:child_process'
import { sleep } from '../../src/waiting.ts'
import { until } from '../cli/cli.ts'
import type { Cluster, ClusterNode } from '../cluster/cluster.ts'
import { type Answer, type Ask, type Line, Violation } from '../sim/judge.ts'
import type { Random } from '../sim/seed.ts'
import type { Book, Version } from './book.ts'
import type { Clients, Door } from './clients.ts'

const READY_MS = 90_000
const ANSWER_MS = 30_000
/** Tokens in one request. */
const TOGETHER = 20_000
/** Versions in one request, and characters of their values. */
const VERSIONS_TOGETHER = 500
const VALUES_TOGETHER = 4 * 1024 * 1024

export type Site = {
  readonly cluster: Cluster
  readonly clients: Clients
  readonly book: Book
  readonly random: Random
  readonly marker: string
}

/** Afterwards the book holds what the judge of the clients knew. */
export async function lastChecks(site: Site): Promise<void> {
  const { cluster, clients, book } = site
  for (const node of cluster.nodes) {
    await until(`${node.name} is ready`, () => isReady(node), READY_MS).catch((error) => {
      throw new Violation(`${error.message}\n${node.process?.log.slice(-20).join('\n')}`)
    })
  }
  await tokensAreThere(site)
  const histories = await readHistories(site)
  clients.judge.judgeSecrets(histories)
  book.add(clients.judge, histories)
  await earlierVersions(site)
  const digests = await cluster.digests()
  if (digests.size !== 1) throw new Violation(`law 5: digests differ: ${[...digests].join(' ')}`)
  nothingInClear(site)
}

async function isReady(node: ClusterNode): Promise<boolean> {
  try {
    return (await node.reasons()).length === 0
  } catch {
    return false // the node does not listen yet
  }
}

/** Asks until the node answers. */
async function certain(clients: Clients, door: Door, asked: Ask): Promise<Answer> {
  const deadline = performance.now() + ANSWER_MS
  for (;;) {
    const answer = await clients.ask(door, asked)
    if (answer.kind !== 'unknown' && answer.kind !== 'not-applied') return answer
    if (performance.now() > deadline)
      throw new Violation(`${door.name} does not answer ${asked.kind} after the fault`)
    await sleep(100)
  }
}

/** Every acknowledged token on every node, and new values get tokens. The judge compares. */
async function tokensAreThere({ cluster, clients, book, random, marker }: Site): Promise<void> {
  const { judge } = clients
  for (const node of cluster.nodes) {
    const issues = [...judge.issues]
    for (const owner of clients.owners) {
      const tokens = issues.filter(([, issue]) => issue.owner === owner).map(([token]) => token)
      for (let i = 0; i < tokens.length; i += TOGETHER)
        await certain(clients, node, { kind: 'detokenize', owner, tokens: tokens.slice(i, i + TOGETHER) })
      const values = [`${marker} last ${random.below(20)}`, `${marker} ${node.name}`]
      await certain(clients, node, { kind: 'tokenize', owner, values })
      const answer = await certain(clients, node, { kind: 'epochs', owner })
      if (answer.kind === 'active') book.opened(owner, answer.epoch)
    }
  }
}

/** The histories of the clients' secrets, on every node, and the value of each version on the first. */
async function readHistories({ cluster, clients }: Site): Promise<Map<string, readonly Line[]>> {
  const histories = new Map<string, readonly Line[]>()
  for (const owner of clients.owners) {
    for (const name of clients.names) {
      for (const [i, node] of cluster.nodes.entries()) {
        const answer = await certain(clients, node, { kind: 'history', owner, name })
        if (answer.kind !== 'lines') continue
        histories.set(JSON.stringify([owner, name]), answer.lines)
        const versions = i === 0 ? answer.lines.map(({ version }) => version) : []
        for (const version of versions) await certain(clients, node, { kind: 'read', owner, name, version })
        await certain(clients, node, { kind: 'read', owner, name })
      }
    }
  }
  return histories
}

/** All versions of all secrets so far, on every node, many together. */
async function earlierVersions({ cluster, clients, book }: Site): Promise<void> {
  for (const [owner, versions] of Map.groupBy(book.versions, (version) => version.owner)) {
    for (const some of batches(versions)) {
      const refs = some.map(({ name, version }) => ({ name, version }))
      for (const node of cluster.nodes) {
        const answer = await certain(clients, node, { kind: 'resolve', owner, refs })
        const values = answer.kind === 'resolved' ? answer.values : []
        const lost = some.find(({ value }, i) => values[i] !== value)
        if (lost) throw new Violation(`law 1: ${node.name} has not version ${lost.version} of ${lost.name}`)
      }
    }
  }
}

/** In their order; each batch is a request that no node refuses. */
function batches(versions: readonly Version[]): Version[][] {
  const list: Version[][] = []
  let characters = Number.POSITIVE_INFINITY
  for (const version of versions) {
    characters += version.value.length
    if (characters > VALUES_TOGETHER || (list.at(-1)?.length ?? 0) === VERSIONS_TOGETHER) {
      list.push([])
      characters = version.value.length
    }
    list.at(-1)?.push(version)
  }
  return list
}

/** Law 8. */
function nothingInClear({ cluster, clients, marker }: Site): void {
  const texts = [`${marker} `, ...Object.values(cluster.keys)]
  for (const text of texts) {
    const { status, stdout } = spawnSync('grep', ['-rlaF', '-e', text, cluster.dir], { encoding: 'utf8' })
    if (status !== 1) throw new Violation(`law 8: in clear in ${stdout.trim()}`)
    for (const { name, process: node } of cluster.nodes)
      if (node && node.told(text) > 0) throw new Violation(`law 8: in clear in the log of ${name}`)
  }
  if (clients.judge.calls.length === 0) throw new Violation('nothing was asked')
}
