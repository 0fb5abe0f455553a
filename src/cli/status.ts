// coffer status: compares the nodes of COFFER_URL, and names their differences.
import type { Command } from 'commander'
import { CofferError, type NodeStatus } from '../client/index.ts'
import { FAILED } from '../errors.ts'
import { connect, ENVIRONMENT, urls } from './terminal/connect.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

const TIMEOUT_MS = 5_000

/** The answer of a node: its status, or `error`. */
type NodeAnswer = {
  readonly url: string
  readonly ready: boolean
  readonly reasons: readonly string[]
  readonly status: NodeStatus | null
  /** Of the caller's owner, in bytes; null: no quota, or no answer. */
  readonly quota: number | null
  readonly used: number | null
  readonly error: string | null
}

export function registerStatus(program: Command): void {
  program
    .command('status')
    .description('show every node of COFFER_URL side by side, and where they differ')
    .option(
      '--json',
      'print {"nodes":[{"url","ready","reasons","status","quota","used","error"}],"differ":[…]}',
    )
    .addHelpText(
      'after',
      `
The exit code is 1 if a node cannot be reached or is not ready.

Example:
  $ COFFER_URL=http://127.0.0.1:8200,http://127.0.0.1:8210 coffer status
${ENVIRONMENT}`,
    )
    .action(status)
}

async function status({ json }: { readonly json?: boolean }): Promise<void> {
  const nodes = await Promise.all(urls().map(ask))
  const differ = differences(nodes)
  if (json) printJson({ nodes, differ })
  else show(nodes, differ)
  if (nodes.some(({ ready, error }) => !ready || error !== null)) process.exitCode = FAILED
}

async function ask(url: string): Promise<NodeAnswer> {
  const coffer = connect([url], TIMEOUT_MS)
  let ready = { ready: false, reasons: [] as readonly string[] }
  try {
    ready = await coffer.ready()
    const [status, { quota, used }] = await Promise.all([coffer.status(), coffer.whoami()])
    return { url, ...ready, status, quota, used, error: null }
  } catch (error) {
    if (!(error instanceof CofferError)) throw error
    return { url, ...ready, status: null, quota: null, used: null, error: error.message }
  } finally {
    coffer.close()
  }
}

const ROWS: readonly (readonly [name: string, read: (status: NodeStatus) => string])[] = [
  ['node', (now) => now.node],
  ['version', (now) => now.version],
  ['ledger', (now) => now.ledger.kind],
  ['identity', (now) => now.ledger.identity],
  ['head', (now) => String(now.ledger.revision)],
  ['revision', (now) => String(now.replica.revision)],
  ['lag', (now) => String(now.replica.lag)],
  ['digest', (now) => now.replica.digest],
  ['quorum', (now) => (now.quorum ? 'yes' : 'no')],
  ['leader', (now) => now.leader ?? 'none'],
  [
    'members',
    (now) => now.members.map(({ node, ready }) => (ready ? node : `${node} (away)`)).join(' ') || '-',
  ],
  ['fields', (now) => now.fields],
  ['owners', (now) => now.owners],
  ['root keys', (now) => [...now.root_keys].sort().join(' ')],
]

/** Rows equal on all nodes of a vault; digests too, but only at the same revision. */
const AGREED: readonly string[] = ['version', 'ledger', 'identity', 'fields', 'owners', 'root keys', 'leader']

function differences(nodes: readonly NodeAnswer[]): string[] {
  const statuses = nodes.flatMap(({ status: now }) => (now ? [now] : []))
  const sameRevision = new Set(statuses.map((now) => now.replica.revision)).size === 1
  const compared = sameRevision ? [...AGREED, 'digest'] : AGREED
  return ROWS.filter(([name]) => compared.includes(name))
    .filter(([, read]) => new Set(statuses.map(read)).size > 1)
    .map(([name]) => name)
}

function show(nodes: readonly NodeAnswer[], differ: readonly string[]): void {
  // The command compares whole hashes; a person needs only their beginnings.
  const short = (text: string): string => (/^[0-9a-f]{32,}$/.test(text) ? `${text.slice(0, 12)}…` : text)
  const rows = ROWS.map(([name, read]) => [
    name,
    ...nodes.map(({ status: now }) => (now ? short(read(now)) : '-')),
    differ.includes(name) ? '<- differ' : '',
  ])
  print(
    table([
      ['', ...nodes.map(({ url }) => url), ''],
      ['ready', ...nodes.map(({ ready, error }) => (ready ? 'yes' : error ? 'no answer' : 'no')), ''],
      ...rows,
      ['quota', ...nodes.map(({ quota, status: now }) => (now ? (quota ?? 'none') : '-')).map(String), ''],
      ['used', ...nodes.map(({ used }) => String(used ?? '-')), ''],
    ]),
  )
  for (const { url, reasons, error } of nodes) {
    for (const reason of error ? [error] : reasons) note(`${url}: ${reason}`)
  }
  if (differ.length > 0)
    note(
      `the nodes differ in ${differ.join(', ')}, and must agree: ` +
        'compare their configurations, keyrings and versions',
    )
}
