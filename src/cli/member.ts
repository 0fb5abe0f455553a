// coffer member: lists the members of the etcd cluster, and replaces a member after the loss of its data.
import { existsSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { OperatorError, UsageError } from '../errors.ts'
import { DRIVERS, type LedgerSettings, type MemberSettings } from '../ledger/drivers.ts'
import { type Config, readConfig } from '../node/config.ts'
import { lockStopped } from './local/node-process.ts'
import { TemporaryMembers } from './local/temporary-members.ts'
import { memberOf, runMember } from './member-run.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

/** How long a learner may take for the snapshot and log of the other members: up to 8 GiB. */
const IN_SYNC_MS = 30 * 60_000

type Options = { readonly config: string; readonly force?: boolean; readonly json?: boolean }

export function registerMember(program: Command): void {
  const member = program
    .command('member')
    .description('members of the etcd cluster: list, replace, run')
    .addHelpText(
      'after',
      `
Every node of \`coffer init DIR --nodes 3\` runs one member of the cluster that is the ledger.

Example:
  $ coffer member list --config ./vault/n1.yaml
  $ coffer member replace n2 --config ./vault/n2.yaml
  $ coffer member run --config ./vault/n2.yaml`,
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
    .option('--force', 'replace the member although it answers and is ready')
    .option('--json', 'print {"node","replaced":true}')
    .addHelpText(
      'after',
      `
A member without its data must not simply start again: the cluster relies on its earlier votes. So the
member is removed, added as a learner without a vote, and promoted once it has the data of the other
members. The node must be stopped, and the other members must run and be a majority. A member that answers
and is ready has not lost its data, and is not replaced without --force. The rest of the old data is renamed
to etcd.replaced. After an interruption run the command again.

Example:
  $ coffer member replace n2 --config ./vault/n2.yaml
  $ coffer start --config ./vault/n2.yaml`,
    )
    .action(replace)
  member
    .command('run')
    .description('run the member of a stopped node alone, without its vault')
    .requiredOption('--config <file>', 'the configuration of the stopped node')
    .addHelpText(
      'after',
      `
For a restore over several machines: the member of each node runs on its own machine, and \`coffer restore\`
runs on one of them. Runs until SIGINT or SIGTERM, and then exits with 0; meanwhile the node cannot start.

Example:
  $ coffer member run --config ./n1.yaml`,
    )
    .action(runMember)
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

async function replace(node: string, { config: file, force, json }: Options): Promise<void> {
  const found = findNode(node, readConfig(file))
  const { config, ledger, member } = found
  const { Membership } = await import('../node/membership.ts')
  const { MemberDirectory } = await import('../node/member-directory.ts')
  const hold = lockStopped(config)
  const membership = new Membership(ledger, member.client)
  try {
    if (!force) await refuseReady(node, found)
    await membership.list() // fails before any change if no other member answers
    await membership.remove(node, member.peer)
    const directory = new MemberDirectory(config)
    setAside(directory.path)
    await membership.addLearner(member.peer)
    directory.markJoining()
    note(`member ${node} is added without a vote; it now copies the data of the other members`)
    const members = TemporaryMembers.start([config], { report: note })
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

/**
 * The node is stopped here, and its member may run all the same: on another machine, where the configuration
 * is a copy. Throws OperatorError if the member answers and is ready.
 */
async function refuseReady(node: string, { config, ledger, member }: NodeWithMember): Promise<void> {
  const { Membership } = await import('../node/membership.ts')
  const all = new Membership(ledger)
  try {
    const members = await all.list()
    if (!members.some((each) => each.ready && (each.node === node || each.peer === member.peer))) return
  } finally {
    all.close()
  }
  const why = `member ${node} answers at ${member.client} and is ready, and node ${node} does not run here`
  throw new OperatorError(`${why} with ${config.file}`, {
    hint: `stop node ${node} on its own machine and run the command there, or name --force`,
  })
}

/** The node's configuration: the named file, or a file beside it. Throws UsageError, ConfigError. */
function findNode(node: string, named: Config): NodeWithMember {
  const config = named.node === node ? named : readConfig(join(dirname(named.file), `${node}.yaml`))
  const { ledger } = config
  if (config.node !== node)
    throw new UsageError(`${config.file} is the configuration of node ${config.node}`, {
      hint: `name the configuration of node ${node}`,
    })
  return { config, ledger, member: memberOf(config) }
}

/** Replaces a directory that was set aside before. */
function setAside(path: string): void {
  if (!existsSync(path)) return
  rmSync(`${path}.replaced`, { recursive: true, force: true })
  renameSync(path, `${path}.replaced`)
}
