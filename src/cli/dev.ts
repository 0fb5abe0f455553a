// coffer dev: one node in a temporary directory, for trying; all of it is removed at the end.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { FAILED } from '../errors.ts'
import { SILENT } from '../log.ts'
import { readConfig } from '../node/config.ts'
import type { Node } from '../server/start.ts'
import { sleep } from '../waiting.ts'
import { initDirectory } from './init.ts'
import { onParentEnd } from './local/npm-parent.ts'
import { endOnUncaughtErrors, endProcess } from './local/process-end.ts'
import { explain } from './terminal/failure.ts'
import { note, print } from './terminal/terminal.ts'

const OWNER = 'dev'
/** How long requests in progress may take at the end. */
const STOP_MS = 3_000
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export function registerDev(program: Command): void {
  program
    .command('dev')
    .description('run one node in a temporary directory, to try the API; gone at Ctrl-C')
    .addHelpText(
      'after',
      `
Prints the URL, an API key, and a line of curl to paste. The node listens on a free port of
127.0.0.1. Ctrl-C, SIGTERM and the end of the terminal remove the node with all its data; the exit
code is 0. For data to keep: \`coffer init\` and \`coffer start\`.

Example:
  $ coffer dev`,
    )
    .action(dev)
}

async function dev(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-dev-'))
  // Also where stdout is closed, or the start fails: the handler is the last to run.
  process.once('exit', () => removeDirectory(dir))
  const stopped = Promise.withResolvers<void>()
  // npm sends Ctrl-C a second time: every further signal is the same wish.
  for (const signal of SIGNALS) process.on(signal, () => stopped.resolve())
  onParentEnd(() => stopped.resolve())
  const vault = initDirectory({ dir: join(dir, 'vault'), owners: [OWNER], fields: [], port: 0 })
  const { ignoreStrayRejections, startNode } = await import('../server/start.ts')
  ignoreStrayRejections()
  endOnUncaughtErrors()
  const warn = (_: object, message: string): void => note(`coffer: ${message}`)
  const log = { ...SILENT, warn, error: warn }
  const node = await startNode(readConfig(vault.configs[0]), { log })
  try {
    await serve(node, { dir, key: vault.owners[OWNER], stopped: stopped.promise })
    await Promise.race([node.stop(), sleep(STOP_MS)])
    endProcess(0)
  } catch (error) {
    // The node still has its port, and would keep the process.
    note(`coffer: ${explain(error).text}`)
    endProcess(FAILED)
  }
}

type Serving = { readonly dir: string; readonly key: string; readonly stopped: Promise<void> }

/** Resolves at the end that the user wants. Throws the error that has ended the node. */
async function serve(node: Node, { dir, key, stopped }: Serving): Promise<void> {
  const beginning = Promise.race([node.ready, stopped])
  await Promise.race([beginning, node.failed.then((error) => Promise.reject(error))])
  print(welcome(node.url, key))
  note(`\nAll data is in ${dir}, and is removed at Ctrl-C.`)
  const failed = await Promise.race([stopped, node.failed])
  if (failed) throw failed
}

function welcome(url: string, key: string): string {
  const body = JSON.stringify({ values: ['912-40-1187'] })
  return `URL      ${url}
API key  ${key}

The first token, in another terminal:

curl -sS ${url}/tokenize -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '${body}'

For other commands of coffer:

export COFFER_URL=${url} COFFER_KEY=${key}`
}

/** Files may be written until the very end: a directory that is not empty is tried again. */
function removeDirectory(dir: string): void {
  rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
}
