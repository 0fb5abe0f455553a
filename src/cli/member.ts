// coffer member: lists the members of the etcd cluster, and replaces a member after the loss of its data.
import { existsSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { UsageError } from '../errors.ts'
import { DRIVERS, type LedgerSettings, type MemberSettings } from '../ledger/drivers.ts'
import { type Config, readConfig } from '../node/config.ts'
import { lockStopped } from './local/node-process.ts'
import { TemporaryMembers } from './local/temporary-members.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

/** How long a learner may take for the snapshot and log of the other members: up to 8 GiB. */
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
    .description('list the members, and which of them are ready and lead')
    .requiredOption('--config <file>', 'the configuration of any node')
    .option('--json', 'print {"members":[{"node","id","peer","learner","ready","leader"}]}')
    .addHelpText('after', '\nExample:\n  $ coffer member list --config ./vault/n1.yaml')
    .action(list)
  member
    .command('replace')
    .argument('<node>', 'the node whose member has lost its data')
    .description('remove a member from the cluster, and add it again without data')
    .requiredOption('--config <file>', 'the configuration of that node, or a configuration beside it')
    .option('--json', 'print {"node","replaced":true}')
    .addHelpText(
      'after',
      `
A member without its data must not simply start again: the cluster relies on its earlier votes. So the
member is removed, added as a learner without a vote, and promoted once it has the data of the other
members. The node must be stopped, and the other members must run and be a majority. The rest of the old
data is renamed to etcd.replaced. After an interruption run the command again.

Example:
  $ coffer member replace n2 --config ./vault/n2.yaml
  $ coffer start --config ./vault/n2.yaml`,
    )
    .action(replace)
}

async function list({ config: file, json }: Options): Promise<void> {
  const { ledger } = readConfig(file)
  if (!DRIVERS[ledger.kind].takes.includes('member'))
    throw new UsageError(`a ledger of kind ${ledger.kind} has no members`, {
      hint: 'only nodes made by `coffer init --nodes 3` have members',
    })
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
  const { config, ledger, member } = findNode(node, readConfig(file))
  const { Membership } = await import('../node/membership.ts')
  const { MemberDirectory } = await import('../node/member-directory.ts')
  const hold = lockStopped(config)
  const membership = new Membership(ledger, member.client)
  try {
    await membership.list() // fails before any change if no member answers
    await membership.remove(node, member.peer)
    const directory = new MemberDirectory(config)
    setAside(directory.path)
    await membership.addLearner(member.peer)
    directory.markJoining()
    note(`member ${node} is added without a vote; it now copies the data of the other members`)
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
  else print(`member ${node} is replaced`)
  note(`Next: coffer start --config ${config.file}`)
}

type NodeWithMember = {
  readonly config: Config
  readonly ledger: LedgerSettings
  readonly member: MemberSettings
}

/** The node's configuration: the named file, or a file beside it. Throws UsageError, ConfigError. */
function findNode(node: string, named: Config): NodeWithMember {
  const config = named.node === node ? named : readConfig(join(dirname(named.file), `${node}.yaml`))
  const { ledger } = config
  if (config.node !== node)
    throw new UsageError(`${config.file} is the configuration of node ${config.node}`, {
      hint: `name the configuration of node ${node}`,
    })
  if (!ledger.member)
    throw new UsageError(`node ${node} runs no member`, { hint: `see ledger.member in ${config.file}` })
  return { config, ledger, member: ledger.member }
}

/** Replaces a directory that was set aside before. */
function setAside(path: string): void {
  if (!existsSync(path)) return
  rmSync(`${path}.replaced`, { recursive: true, force: true })
  renameSync(path, `${path}.replaced`)
}
