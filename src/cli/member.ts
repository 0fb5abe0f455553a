// coffer member: the members of the etcd cluster, and one that takes its place anew because its data is gone.
import { existsSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { UsageError } from '../errors.ts'
import { DRIVERS, type LedgerSettings, type MemberSettings } from '../ledger/drivers.ts'
import { type Config, readConfig } from '../node/config.ts'
import { lockStopped } from './local/node-process.ts'
import { TemporaryMembers } from './local/temporary-members.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

/** A learner takes the others' snapshot and log first: up to 8 GiB. */
const IN_SYNC_MS = 30 * 60_000

type Options = { readonly config: string; readonly json?: boolean }

export function registerMember(program: Command): void {
  const member = program
    .command('member')
    .description('members of the etcd cluster: list, replace')
    .addHelpText(
      'after',
      `
Every node of \`coffer init DIR --nodes 3\` runs one member of the cluster that is the ledger.

Example:
  $ coffer member list --config ./vault/n1.yaml
  $ coffer member replace n2 --config ./vault/n2.yaml`,
    )
  member
    .command('list')
    .description('who is in the cluster, who answers, who leads')
    .requiredOption('--config <file>', 'the configuration of any node')
    .option('--json', 'print {"members":[{"node","id","peer","learner","ready","leader"}]}')
    .addHelpText('after', '\nExample:\n  $ coffer member list --config ./vault/n1.yaml')
    .action(list)
  member
    .command('replace')
    .argument('<node>', 'the node whose member has lost its data')
    .description('take a member out of the cluster, and in again with nothing')
    .requiredOption('--config <file>', 'the configuration of that node, or of one beside it')
    .option('--json', 'print {"node","replaced":true}')
    .addHelpText(
      'after',
      `
A member whose data is gone must not be started again as if nothing had been: it has promised what it no
longer knows. So it is removed, added as a learner without a vote, and promoted when it has what the others
have. The node must be stopped, and the other members must run and be a majority. What is left of the old
data is renamed to etcd.replaced. An interrupted replacement is repeated.

Example:
  $ coffer member replace n2 --config ./vault/n2.yaml
  $ coffer start --config ./vault/n2.yaml`,
    )
    .action(replace)
}

async function list({ config: file, json }: Options): Promise<void> {
  const { ledger } = readConfig(file)
  if (!DRIVERS[ledger.kind].takes.includes('member'))
    throw new UsageError(`a ledger of kind ${ledger.kind} has no members`)
  const { Membership } = await import('../node/membership.ts')
  const membership = new Membership(ledger)
  try {
    const members = await membership.list()
    if (json) return printJson({ members })
    const rows = members.map(({ node, id, peer, learner, ready, leader }) => [
      node || '(never started)',
      id,
      peer,
      [leader ? 'leader' : '', learner ? 'learner' : '', ready ? 'ready' : 'not ready']
        .filter(Boolean)
        .join(', '),
    ])
    print(table([['node', 'id', 'peer', ''], ...rows]))
  } finally {
    membership.close()
  }
}

async function replace(node: string, { config: file, json }: Options): Promise<void> {
  const { config, ledger, member } = find(node, readConfig(file))
  const { Membership } = await import('../node/membership.ts')
  const { MemberDirectory } = await import('../node/member-directory.ts')
  const hold = lockStopped(config)
  const membership = new Membership(ledger, member.client)
  try {
    await membership.list() // before anything is changed: is there anybody to ask?
    await membership.remove(node, member.peer)
    const directory = new MemberDirectory(config)
    setAside(directory.path)
    await membership.addLearner(member.peer)
    directory.markJoining()
    note(`member ${node} is added without a vote; it takes over what the others have`)
    const members = TemporaryMembers.start([config], note)
    try {
      await membership.promote(member.peer, IN_SYNC_MS)
    } finally {
      await members.stop()
    }
  } finally {
    membership.close()
    hold.release()
  }
  if (json) printJson({ node, replaced: true })
  else print(`member ${node} has its place again`)
  note(`Next: coffer start --config ${config.file}`)
}

type Found = {
  readonly config: Config
  readonly ledger: LedgerSettings
  readonly member: MemberSettings
}

/** The node's configuration: the one that is named, or its neighbour. Throws OperatorError. */
function find(node: string, named: Config): Found {
  const config = named.node === node ? named : readConfig(join(dirname(named.file), `${node}.yaml`))
  const { ledger } = config
  if (config.node !== node) throw new UsageError(`${config.file} is the configuration of ${config.node}`)
  if (!ledger.member)
    throw new UsageError(`node ${node} runs no member of its own (ledger.member in ${config.file})`)
  return { config, ledger, member: ledger.member }
}

/** Of those set aside before, none is kept. */
function setAside(path: string): void {
  if (!existsSync(path)) return
  rmSync(`${path}.replaced`, { recursive: true, force: true })
  renameSync(path, `${path}.replaced`)
}
