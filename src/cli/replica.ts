// coffer replica: compares a stopped node's replica with the ledger, and removes a replica.
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../clock.ts'
import { FAILED, OperatorError } from '../errors.ts'
import { DRIVERS } from '../ledger/drivers.ts'
import { type Config, readConfig } from '../node/config.ts'
import { readLedgerTls } from '../node/tls-files.ts'
import { lockStopped } from './local/node-process.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

type Options = { readonly config: string; readonly json?: boolean }

export function registerReplica(program: Command): void {
  const replica = program
    .command('replica')
    .description('verify or reset the replica of a stopped node')
    .addHelpText(
      'after',
      `
A replica is built from the ledger; after a reset the node builds it again.

Example:
  $ coffer replica verify --config ./vault/n1.yaml
  $ coffer replica reset --config ./vault/n1.yaml`,
    )
  replica
    .command('verify')
    .description('read the replica, build another replica from the ledger, and compare both')
    .requiredOption('--config <file>', 'the configuration of the stopped node')
    .option('--json', 'print {"node","kind","revision","digest","rebuilt","same"}')
    .addHelpText(
      'after',
      `
Needs as much free disk as the replica takes. The exit code is 1 if anything is wrong; then
\`coffer replica reset\` helps. With ledger.kind etcd the members of other nodes must run, and the
replica first catches up with the ledger, as at a start.

Example:
  $ coffer replica verify --config ./vault/n1.yaml`,
    )
    .action(verify)
  replica
    .command('reset')
    .description('remove the replica; the next start builds it again')
    .requiredOption('--config <file>', 'the configuration of the stopped node')
    .option('--json', 'print {"node","removed"}')
    .addHelpText('after', '\nExample:\n  $ coffer replica reset --config ./vault/n1.yaml')
    .action(reset)
}

async function verify({ config: file, json }: Options): Promise<void> {
  const config = readConfig(file)
  requireLedger(config)
  const { verifyNode } = await import('../replica/verify.ts')
  const hold = lockStopped(config)
  try {
    const lost = (reason: string): void => note(`${reason}: waiting for it`)
    const { data, ledger } = config
    const tls = ledger.tls && readLedgerTls(ledger.tls)
    const result = await verifyNode({ data, ledger, tls, clock: systemClock, lost })
    const fine = result.kind === 'absent' || (result.kind === 'compared' && result.digest === result.rebuilt)
    if (json) printJson({ node: config.node, ...result, same: fine })
    else printCheck(result)
    if (!fine) process.exitCode = FAILED
  } finally {
    hold.release()
  }
}

type ReplicaCheck = Awaited<ReturnType<typeof import('../replica/verify.ts').verifyNode>>

function printCheck(result: ReplicaCheck): void {
  switch (result.kind) {
    case 'absent':
      print('there is no replica: the next start builds it')
      break
    case 'damaged':
      print(`the ${result.what} is damaged: ${result.reason}`)
      if (result.what === 'replica')
        note('Next: coffer replica reset; then the next start builds the replica again')
      else note('A ledger cannot be rebuilt: move it to another place, and restore a backup.')
      break
    case 'ahead':
      print(`the replica is at revision ${result.revision}, the ledger only at ${result.head}`)
      note('Was the ledger replaced by an older one? Then run `coffer replica reset`.')
      break
    case 'compared':
      print(`replica at revision ${result.revision}`)
      print(
        table([
          ['', 'digest'],
          ['as it is', result.digest],
          ['rebuilt', result.rebuilt],
        ]),
      )
      note(result.digest === result.rebuilt ? 'they are the same' : 'they differ: `coffer replica reset`')
  }
}

function reset({ config: file, json }: Options): void {
  const config = readConfig(file)
  requireLedger(config)
  const hold = lockStopped(config)
  try {
    // Also damaged replicas, which a start sets aside.
    const names = readdirSync(config.data).filter((name) => /^replica(\.damaged.*)?$/.test(name))
    for (const name of names) rmSync(join(config.data, name), { recursive: true, force: true })
    if (json) printJson({ node: config.node, removed: names.length > 0 })
    else print(names.length > 0 ? 'the replica is removed' : 'there was no replica')
    note(`node ${config.node} builds its replica from the ledger when it starts`)
  } finally {
    hold.release()
  }
}

/** Throws OperatorError if the node has no ledger to compare with; a shared ledger is elsewhere. */
function requireLedger({ data, ledger, node }: Config): void {
  const file = DRIVERS[ledger.kind].file(data)
  if (!existsSync(file ?? data))
    throw new OperatorError(`there is no ${file === undefined ? data : `ledger in ${data}`}`, {
      hint: `has node ${node} ever been started with this configuration?`,
    })
}
