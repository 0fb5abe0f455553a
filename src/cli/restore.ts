// coffer restore: puts a backup into an empty ledger of stopped nodes. The ledger gets a new identity.
import { createReadStream, existsSync, type ReadStream, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import type { VerifiedBackup } from '../backup/backup.ts'
import { systemClock } from '../clock.ts'
import { type Keyring, UnknownRootKey, UnwrapError } from '../crypto/keyring.ts'
import { FatalError, OperatorError, UsageError } from '../errors.ts'
import { DRIVERS } from '../ledger/drivers.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { type Config, readConfig } from '../node/config.ts'
import { until } from '../waiting.ts'
import { checkEndpoints } from './local/endpoints.ts'
import { lockStopped, memberRunsAlone } from './local/node-process.ts'
import { TemporaryMembers } from './local/temporary-members.ts'
import { startProgress } from './terminal/progress.ts'
import { counted, note, print, printJson, table } from './terminal/terminal.ts'

/** How long members may take to found a cluster, or to elect a leader. */
const QUORUM_MS = 20_000
const LOOK_MS = 200

type Options = { readonly config: readonly string[]; readonly json?: boolean }

export function registerRestore(program: Command): void {
  program
    .command('restore')
    .description('put a backup into an empty ledger')
    .argument('<file>', 'a backup written by `coffer backup`')
    .requiredOption('--config <file...>', 'the configuration of a stopped node')
    .option('--json', 'print {"file","revision","made_at","entries","mappings","digest","identity"}')
    .addHelpText(
      'after',
      `
The whole backup is read first: a backup that was changed or cut off since it was written is refused,
and so is a keyring that cannot open it (copy keyring.json from the vault of the backup). The ledger
must be empty. It gets a new identity; tokens stay the same. After an interrupted restore no node
starts with the ledger: run the same restore again to complete it.

If every node has an etcd member, the configurations of the other nodes (NODE.yaml) are found beside
the named configuration. The members run within this command, and stop with it. If the nodes are on
several machines, run \`coffer member run\` on each machine, and then this command on one of them.

Example:
  $ coffer init ./other --owner clinic-a
  $ cp ./vault/keyring.json ./other/keyring.json
  $ coffer restore vault.backup --config ./other/n1.yaml
  $ coffer start --config ./other/n1.yaml`,
    )
    .action(restore)
}

async function restore(name: string, { config: names, json }: Options): Promise<void> {
  const file = resolve(name)
  if (!statSync(file).isFile())
    throw new OperatorError(`${file} is not a regular file, and a backup is read twice`, {
      hint: 'name a file that `coffer backup` has written',
    })
  const nodes = nodesOf(names.map(readConfig))
  const holds: { release(): void }[] = []
  try {
    const idle = nodes.filter((node) => !memberRunsAlone(node))
    for (const node of idle) holds.push(lockStopped(node))
    const verified = await verify(file, nodes)
    const { backup } = verified
    const identity = await restoreInto(nodes, { ...verified, idle })
    const { revision, madeAt, entries, mappings, digest } = backup
    const result = { revision, made_at: madeAt, entries, mappings, digest, identity }
    if (json) printJson({ file, ...result })
    else
      print(
        table([['restored', file], ...Object.entries(result).map(([name, value]) => [name, String(value)])]),
      )
    noteNextStep(nodes)
  } finally {
    for (const hold of holds) hold.release()
  }
}

/** The named nodes, and nodes of the same ledger found beside. Throws OperatorError, ConfigError. */
function nodesOf(named: readonly Config[]): Config[] {
  const [{ ledger: first }] = named
  const nodes = new Map(named.map((config) => [config.node, config]))
  if (nodes.size < named.length)
    throw new UsageError('--config names one node twice', { hint: 'name each node once' })
  if (!DRIVERS[first.kind].shared && named.length > 1)
    throw new UsageError(`a node with ledger.kind ${first.kind} has a ledger of its own`, {
      hint: 'name one node',
    })
  for (const { file, ledger } of named) {
    for (const name of Object.keys(ledger.member?.cluster ?? {})) {
      const sibling = join(dirname(file), `${name}.yaml`)
      if (!nodes.has(name) && existsSync(sibling)) nodes.set(name, readConfig(sibling))
    }
  }
  for (const { file, ledger } of nodes.values()) {
    if (ledgerName(ledger) !== ledgerName(first))
      throw new OperatorError(`${file} has another ledger than ${named[0].file}`, {
        hint: 'restore one ledger after the other',
      })
  }
  return [...nodes.values()]
}

/** Equal for nodes of the same ledger only. */
function ledgerName(ledger: Config['ledger']): string {
  return [ledger.kind, ...ledger.endpoints, ledger.member?.token ?? ''].sort().join(' ')
}

/** The members of a cluster that none of the nodes has; none for a ledger without members. */
function elsewhere(nodes: readonly Config[]): string[] {
  const all = nodes.flatMap(({ ledger }) => Object.keys(ledger.member?.cluster ?? {}))
  return [...new Set(all)].filter((name) => !nodes.some(({ node }) => node === name))
}

type Verified = {
  readonly open: () => ReadStream
  readonly keyring: Keyring
  readonly backup: VerifiedBackup
}

/** Throws OperatorError before anything is written. */
async function verify(file: string, nodes: readonly Config[]): Promise<Verified> {
  const [{ openGenesis, verifyBackup }, { BackupError }, { readKeyring }] = await Promise.all([
    import('../backup/backup.ts'),
    import('../backup/file.ts'),
    import('../server/open.ts'),
  ])
  const open = (): ReadStream => createReadStream(file)
  const megabytes = (bytes: number): number => Math.round(bytes / 1e6)
  const total = megabytes(statSync(file).size)
  const progress = await startProgress({ label: 'checking the backup', unit: 'MB', total })
  let [{ keyring: path }] = nodes
  try {
    const source = open()
    const keyring = readKeyring(nodes[0])
    const show = (): void => progress.show(megabytes(source.bytesRead))
    const backup = await verifyBackup(source, { keyring, progress: show })
    for (const node of nodes) {
      path = node.keyring
      const ring = readKeyring(node)
      openGenesis(ring, backup.genesis)
      for (const [id, count] of backup.rootKeys) {
        if (ring.ids.includes(id)) continue
        progress.note(
          `${path} lacks root key ${id}, which wraps ${counted(count, 'key')} of the backup: ` +
            'owners of these keys are not served until the root key is back',
        )
      }
    }
    return { open, keyring, backup }
  } catch (error) {
    if (error instanceof UnknownRootKey || error instanceof UnwrapError)
      throw new OperatorError(`${path} cannot open the backup (${error.message})`, {
        hint: 'copy keyring.json from the vault of the backup, as it was at that time, and restore again',
      })
    if (error instanceof BackupError)
      throw new OperatorError(`${file}: ${error.message}`, { hint: error.hint })
    if (error instanceof FatalError) throw new OperatorError(`${file}: ${error.message}`)
    throw error
  } finally {
    progress.end()
  }
}

type Target = Verified & {
  /** The nodes whose members do not run yet. */
  readonly idle: readonly Config[]
}

/** Returns the ledger's new identity. */
async function restoreInto(nodes: readonly Config[], { idle, ...verified }: Target): Promise<string> {
  const [{ openLedger }, { NotEmpty, restore: restoreBackup }] = await Promise.all([
    import('../server/open.ts'),
    import('../backup/restore.ts'),
  ])
  const total = verified.backup.entries
  const progress = await startProgress({ label: 'restoring', unit: 'entries', total })
  let members: TemporaryMembers | undefined
  const opening = Promise.withResolvers<Ledger>()
  opening.promise.catch(() => undefined) // the await below reports the error
  const endWork = (): Promise<void> => opening.promise.then((ledger) => ledger.close())
  try {
    members = TemporaryMembers.start(idle, { report: (text) => progress.note(text), endWork })
    opening.resolve(openLedger(nodes[0]))
    const ledger = await opening.promise
    try {
      progress.show(0, 'waiting for quorum')
      await untilQuorum(ledger, nodes)
      await checkEndpoints(nodes[0])
      return await restoreBackup({
        ...verified,
        ledger,
        clock: systemClock,
        progress: (done, label) => progress.show(done, label),
      })
    } finally {
      await ledger.close()
    }
  } catch (error) {
    for (const problem of members?.problems ?? []) progress.note(problem)
    throw error instanceof NotEmpty ? new OperatorError(error.message, { hint: hintFor(nodes[0]) }) : error
  } finally {
    progress.end()
    await members?.stop()
  }
}

/** Throws OperatorError with the commands that are missing. */
async function untilQuorum(ledger: Ledger, nodes: readonly Config[]): Promise<void> {
  let problems: readonly string[] = []
  const hasQuorum = async (): Promise<boolean> => {
    const health = await ledger.health()
    problems = health.problems
    return health.quorum
  }
  if (await until(hasQuorum, { every: LOOK_MS, within: QUORUM_MS })) return
  const [{ ledger: settings, file }] = nodes
  const others = elsewhere(nodes).map(
    (node) => `on the machine of node ${node} run \`coffer member run --config ${node}.yaml\``,
  )
  const here = settings.member ? 'see the logs of the members in run/' : `start the etcd of ${file}`
  throw new OperatorError(`the ledger has no quorum (${problems.join('; ')})`, {
    hint:
      others.length > 0
        ? `${others.join(', ')}, with the same ledger.member.token in all files, and restore again`
        : `${here}, and restore again`,
  })
}

function hintFor({ ledger, data }: Config): string {
  const file = DRIVERS[ledger.kind].file(data)
  if (file !== undefined)
    return `if the ledger is no longer needed, move ${dirname(file)} to another place, and restore again`
  return ledger.member
    ? 'restore into a new cluster: stop all nodes, move `etcd` in the data directory of each node to ' +
        'another place, give all nodes another ledger.member.token, and restore again'
    : 'restore into a new cluster'
}

function noteNextStep(nodes: readonly Config[]): void {
  for (const { node, data, file } of nodes) {
    if (existsSync(join(data, 'replica')))
      note(`node ${node} has a replica of an earlier ledger: coffer replica reset --config ${file}`)
  }
  if (elsewhere(nodes).length > 0 || nodes.some(memberRunsAlone))
    note(
      'Next, for every node on its machine: end `coffer member run`, remove a replica of an earlier ledger ' +
        '(coffer replica reset --config NODE.yaml), and start the node (coffer start --config NODE.yaml)',
    )
  else note(nodes.length === 1 ? `Next: coffer start --config ${nodes[0].file}` : 'Next: start the nodes')
}
