// coffer cluster: the nodes of a directory, run in the background on the machine.
import type { Command } from 'commander'
import { FAILED, UsageError } from '../../errors.ts'
import { note, print, printJson, table } from '../terminal/terminal.ts'
import { nodesOf } from './nodes.ts'
import { startNodes } from './start.ts'
import { showStates, stateOfNodes } from './status.ts'
import { stopNodes } from './stop.ts'

const DIR = ['<dir>', 'the directory with the configurations of the nodes, as made by `coffer init`'] as const

export function registerCluster(program: Command): void {
  const cluster = program
    .command('cluster')
    .description('run the nodes of a directory in the background: start, stop, status')
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
    .description('start the stopped nodes, and wait until all nodes are ready')
    .argument(...DIR)
    .option('--wait <seconds>', 'how long to wait', '120')
    .option('--json', 'print {"nodes":[{"node","url","pid"}]}')
    .addHelpText(
      'after',
      `
Every NODE.yaml in <dir> is a node. A node logs to <dir>/run/NODE.log, its etcd member to
<dir>/run/NODE.etcd.log. If there is no usable etcd, it is built once before the start, which takes
about a minute. The exit code is 1 if a node has ended or is not ready in time; nodes that have
started continue to run.

Example:
  $ coffer cluster start ./cluster`,
    )
    .action(start)
  cluster
    .command('stop')
    .description('stop the running nodes, and wait until they and their members are gone')
    .argument(...DIR)
    .addHelpText(
      'after',
      `
Every node finishes the requests in progress. A node that has not ended 30 seconds after
its drain_seconds is killed.

Example:
  $ coffer cluster stop ./cluster`,
    )
    .action(stop)
  cluster
    .command('status')
    .description('show which nodes run, and their state')
    .argument(...DIR)
    .option('--json', 'print {"nodes":[{"node","url","pid","member_pid","ready","reasons",…}]}')
    .addHelpText(
      'after',
      `
Needs no API key. The exit code is 1 unless all nodes are ready.

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
