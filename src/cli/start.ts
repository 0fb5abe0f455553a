// coffer start: runs one node in the foreground, until a signal.
import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { errorCode, FAILED } from '../errors.ts'
import { type Config, readConfig } from '../node/config.ts'
import { InUse } from '../node/lock.ts'
import type { Node } from '../server/start.ts'
import { initDirectory, printNewVault } from './init.ts'
import {
  memberRunsAlone,
  removeMemberPid,
  removePid,
  runningNode,
  writeMemberPid,
  writePid,
} from './local/node-process.ts'
import { endOnUncaughtErrors, endProcess } from './local/process-end.ts'
import { explain } from './terminal/failure.ts'
import { note } from './terminal/terminal.ts'

const DEFAULT_DIR = './coffer-data'
export const DEFAULT_CONFIG = `${DEFAULT_DIR}/n1.yaml`

export function registerStart(program: Command): void {
  program
    .command('start')
    .description('run one node in the foreground')
    .option('--config <file>', `the node's configuration (default: ${DEFAULT_CONFIG}, created if absent)`)
    .addHelpText(
      'after',
      `
The node logs to stderr, a JSON object per line, and writes its process id to run/NODE.pid beside
the configuration.

  SIGTERM, SIGINT  after drain_seconds finish the requests in progress, then exit with 0; a second
                   signal exits at once with 1
  SIGHUP           re-read owners, keyring and certificate; a fault in one is logged, the others are in force

Example:
  $ coffer start                            creates ./coffer-data the first time, and prints the API key
  $ coffer start --config ./vault/n1.yaml`,
    )
    .action(async ({ config }: { readonly config?: string }) => {
      await start(readConfig(config ?? defaultConfig()))
    })
}

function defaultConfig(): string {
  if (!existsSync(DEFAULT_CONFIG)) {
    printNewVault(initDirectory({ dir: DEFAULT_DIR, owners: ['default'], fields: [], port: 8200 }))
  }
  return DEFAULT_CONFIG
}

async function start(config: Config): Promise<never> {
  // Loaded only here: the commands of a client do not need the server.
  const [{ ignoreStrayRejections, startNode }, { stderrLog }] = await Promise.all([
    import('../server/start.ts'),
    import('../server/stderr-log.ts'),
  ])
  ignoreStrayRejections()
  endOnUncaughtErrors()
  const log = stderrLog(config.node)
  const warn = (warning: string): void => log.warn({}, warning)
  const started = Promise.withResolvers<Node>()
  process.once('exit', () => {
    removeMemberPid(config)
    removePid(config)
  })
  process.on('SIGHUP', () => void started.promise.then((node) => node.reload()))
  const stop = Promise.withResolvers<void>()
  let signals = 0
  let opened = false
  const onSignal = (): void => {
    signals++
    // No request is in progress yet.
    if (!opened) endProcess(0)
    if (signals > 1) endProcess(FAILED)
    stop.resolve()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  try {
    const node = await startNode(config, {
      log,
      locked: () => writePid(config, warn),
      member: (pid) => (pid === undefined ? removeMemberPid(config) : writeMemberPid(config, pid, warn)),
    })
    opened = true
    started.resolve(node)
    const failed = await Promise.race([stop.promise, node.failed])
    if (failed) throw failed
    await node.stop()
    log.info({}, 'stopped')
    return endProcess(0)
  } catch (error) {
    note(`coffer: ${explainListen(error, config) ?? explainInUse(error, config) ?? explain(error).text}`)
    return endProcess(FAILED)
  }
}

function explainInUse(error: unknown, config: Config): string | undefined {
  if (!(error instanceof InUse)) return undefined
  if (memberRunsAlone(config))
    return `member ${config.node} runs without its vault: end \`coffer member run\` first`
  const pid = runningNode(config)?.pid
  const who = pid === undefined ? error.message : `${error.message} (${pid})`
  return `${who}: node ${config.node} runs already, or another node has the same data; stop that node first`
}

/** The message for an error of the address; undefined: another error. */
function explainListen(error: unknown, { listen, file }: Config): string | undefined {
  // Errors of files have the same codes.
  if (!(error instanceof Error && 'syscall' in error && LISTEN_CALLS.includes(error.syscall)))
    return undefined
  const code = errorCode(error) ?? ''
  const why = Object.hasOwn(LISTEN_FAULTS, code) ? LISTEN_FAULTS[code] : undefined
  if (why === undefined) return undefined
  return `cannot listen on ${listen.host}, port ${listen.port}: ${why}, or change listen in ${file}`
}

const LISTEN_CALLS: readonly unknown[] = ['listen', 'bind', 'getaddrinfo']
const LISTEN_FAULTS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process has this port; end that process',
  EADDRNOTAVAIL: 'this machine does not have this address; use one of its addresses',
  ENOTFOUND: 'this host is not known; use a name of this machine',
  EACCES: 'only root may use this port; use a port above 1023',
}
