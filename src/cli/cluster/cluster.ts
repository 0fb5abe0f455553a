// coffer cluster: the nodes of a directory on this machine, in the background.
import type { Command } from 'commander'
import { FAILED, UsageError } from '../../errors.ts'
import { note, print, printJson, table } from '../terminal/terminal.ts'
import { nodesOf } from './nodes.ts'
import { startNodes } from './start.ts'
import { showStates, stateOfNodes } from './status.ts'
import { stopNodes } from './stop.ts'

const DIR = ['<dir>', 'where the configurations of the nodes are, as `coffer init` makes it'] as const

export function registerCluster(program: Command): void {
  const cluster = program
    .command('cluster')
    .description('the nodes of a directory on this machine, in the background: start, stop, status')
    .addHelpText(
      'after',
      `
Example:
  $ coffer init ./cluster --nodes 3 --owner clinic-a
  $ coffer cluster start ./cluster
  $ coffer cluster status ./cluster
  $ coffer cluster stop ./cluster`,
    )
  cluster
    .command('start')
    .description('start the nodes that do not run, and wait until all are ready')
    .argument(...DIR)
    .option('--wait <seconds>', 'how long to wait', '120')
    .option('--json', 'print {"nodes":[{"node","url","pid"}]}')
    .addHelpText(
      'after',
      `
A node is every NODE.yaml in <dir>. It logs to <dir>/run/NODE.log, and its etcd member to
<dir>/run/NODE.etcd.log. Where there is no etcd that can be used, it is built first, once, which
takes about a minute. Ends with 1 where a node has ended, or is not ready in time; those that have
started run on.

Example:
  $ coffer cluster start ./cluster`,
    )
    .action(start)
  cluster
    .command('stop')
    .description('stop the nodes that run, and wait until they and their members are gone')
    .argument(...DIR)
    .addHelpText(
      'after',
      `
Every node finishes what has begun. One that has not ended after 30 seconds is killed.

Example:
  $ coffer cluster stop ./cluster`,
    )
    .action(stop)
  cluster
    .command('status')
    .description('which nodes run, and what they tell')
    .argument(...DIR)
    .option('--json', 'print {"nodes":[{"node","url","pid","member_pid","ready","reasons",…}]}')
    .addHelpText(
      'after',
      `
Needs no API key. Ends with 1 unless all nodes are ready.

Example:
  $ coffer cluster status ./cluster`,
    )
    .action(status)
}

type StartOptions = { readonly wait: string; readonly json?: boolean }

async function start(dir: string, { wait, json }: StartOptions): Promise<void> {
  if (!/^[1-9]\d{0,5}$/.test(wait)) throw new UsageError('--wait must be a whole number of seconds from 1')
  const nodes = await startNodes(nodesOf(dir), Number(wait) * 1000)
  if (json) printJson({ nodes: nodes.map(({ pid, ...node }) => ({ ...node, pid: pid ?? null })) })
  else
    print(
      table([['node', 'url', 'pid'], ...nodes.map(({ node, url, pid }) => [node, url, String(pid ?? '-')])]),
    )
}

async function stop(dir: string): Promise<void> {
  const stopped = await stopNodes(nodesOf(dir))
  note(stopped.length > 0 ? `stopped: ${stopped.join(', ')}` : `no node of ${dir} runs here`)
}

async function status(dir: string, { json }: { readonly json?: boolean }): Promise<void> {
  const nodes = await stateOfNodes(nodesOf(dir))
  if (json) printJson({ nodes })
  else showStates(nodes)
  if (nodes.some(({ ready }) => !ready)) process.exitCode = FAILED
}
