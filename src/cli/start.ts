// coffer start: one node in the foreground, until a signal ends it.
import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { errorCode, FAILED } from '../errors.ts'
import { type Config, readConfig } from '../node/config.ts'
import { InUse } from '../node/lock.ts'
import type { Node } from '../server/start.ts'
import { initDirectory, tell } from './init.ts'
import { removeMemberPid, removePid, runningNode, writeMemberPid, writePid } from './local/node-process.ts'
import { explain } from './terminal/failure.ts'
import { note } from './terminal/terminal.ts'

const DEFAULT_DIR = './coffer-data'
export const DEFAULT_CONFIG = `${DEFAULT_DIR}/n1.yaml`

export function registerStart(program: Command): void {
  program
    .command('start')
    .description('run one node in the foreground')
    .option('--config <file>', `the node's configuration (default: ${DEFAULT_CONFIG}, made when absent)`)
    .addHelpText(
      'after',
      `
The node logs to stderr, a JSON object a line, and writes its process id to run/NODE.pid beside
the configuration.

  SIGTERM, SIGINT  finish what has begun, then end with 0; the second one ends at once with 1
  SIGHUP           re-read the owners and the keyring; a mistake in them is logged and changes nothing

Example:
  $ coffer start                            the first time: makes ./coffer-data, prints the API key
  $ coffer start --config ./vault/n1.yaml`,
    )
    .action(async ({ config }: { readonly config?: string }) => {
      await start(readConfig(config ?? defaultConfig()))
    })
}

function defaultConfig(): string {
  if (!existsSync(DEFAULT_CONFIG)) {
    tell(initDirectory({ dir: DEFAULT_DIR, owners: ['default'], fields: [], port: 8200 }))
  }
  return DEFAULT_CONFIG
}

async function start(config: Config): Promise<never> {
  // What a client's command does not need is loaded here, not with every command.
  const [{ ignoreStrayRejections, startNode }, { default: pino }] = await Promise.all([
    import('../server/start.ts'),
    import('pino'),
  ])
  ignoreStrayRejections()
  const log = pino({ level: 'info', base: { node: config.node } }, pino.destination({ dest: 2, sync: true }))
  const started = Promise.withResolvers<Node>()
  const end = (code: number): never => {
    removeMemberPid(config)
    removePid(config)
    process.exit(code)
  }
  let reloads: Promise<unknown> = started.promise
  process.on('SIGHUP', () => {
    reloads = reloads
      .then(() => started.promise.then((node) => node.reload()))
      .catch((error: Error) => {
        log.error({ error: error.message }, 'nothing was re-read: correct this and send SIGHUP again')
      })
  })
  const stop = Promise.withResolvers<void>()
  let signals = 0
  let opened = false
  const onSignal = (): void => {
    signals++
    // Nothing has begun that would have to be finished.
    if (!opened) end(0)
    if (signals > 1) end(FAILED)
    stop.resolve()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  try {
    const node = await startNode(config, {
      log,
      locked: () => writePid(config),
      member: (pid) => (pid === undefined ? removeMemberPid(config) : writeMemberPid(config, pid)),
    })
    opened = true
    started.resolve(node)
    const failed = await Promise.race([stop.promise, node.failed])
    if (failed) throw failed
    await node.stop()
    log.info('stopped')
    return end(0)
  } catch (error) {
    note(`coffer: ${portTrouble(error, config) ?? inUse(error, config) ?? explain(error).text}`)
    return end(FAILED)
  }
}

function inUse(error: unknown, config: Config): string | undefined {
  if (!(error instanceof InUse)) return undefined
  const pid = runningNode(config)?.pid
  const who = pid === undefined ? error.message : `${error.message} (${pid})`
  return `${who}: node ${config.node} runs already, or another node has the same data`
}

/** What is wrong with the address, where that is what the start has failed of. */
function portTrouble(error: unknown, { listen, file }: Config): string | undefined {
  const code = errorCode(error) ?? ''
  const why = Object.hasOwn(PORT_TROUBLES, code) ? PORT_TROUBLES[code] : undefined
  if (why === undefined) return undefined
  return `cannot listen on ${listen.host}, port ${listen.port}: ${why}, or change listen in ${file}`
}

const PORT_TROUBLES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process has this port; end that one',
  EADDRNOTAVAIL: 'this machine does not have this address; use one that it has',
  ENOTFOUND: 'there is no such host; use a name of this machine',
  EACCES: 'only root may use this port; use one above 1023',
}
