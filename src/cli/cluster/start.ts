// coffer cluster start: starts the stopped nodes in the background, and waits until all nodes are ready.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { findEtcd } from '../../node/etcd-binary.ts'
import { sleep } from '../../waiting.ts'
import { NO_DEBUGGER } from '../hardened.ts'
import { NodeHttp, type Readiness } from '../local/node-http.ts'
import { runningNode } from '../local/node-process.ts'
import { startProgress } from '../terminal/progress.ts'
import { note } from '../terminal/terminal.ts'

const POLL_MS = 100
const ASK_MS = 2_000

/** A node on the way to readiness. */
type StartingNode = {
  readonly config: Config
  readonly http: NodeHttp
  /** undefined: the node ran before the command, and runs still. */
  readonly started?: StartedProcess
}

/** `logStart`: the size of the log in bytes at the start; earlier processes wrote the text before. */
type StartedProcess = { readonly child: ChildProcess; readonly log: string; readonly logStart: number }

type StartedNode = { readonly node: string; readonly url: string; readonly pid: number | undefined }

/** Resolves when all are ready at the same time. Throws OperatorError, NoEtcd. */
export async function startNodes(configs: readonly Config[], waitMs: number): Promise<StartedNode[]> {
  const nodes = configs.map((config) => ({ config, http: NodeHttp.of(config) }))
  try {
    const stopped = new Set(configs.filter((config) => runningNode(config) === undefined))
    for (const { config, http } of nodes) if (stopped.has(config)) await checkAddress(config, http)
    findEtcdFor([...stopped])
    const starting = nodes.map((node) =>
      stopped.has(node.config) ? { ...node, started: spawnNode(node.config) } : node,
    )
    await untilReady(starting, waitMs)
    return nodes.map(({ config, http }) => ({
      node: config.node,
      url: http.url,
      pid: runningNode(config)?.pid,
    }))
  } finally {
    for (const { http } of nodes) http.close()
  }
}

/** A program at the address would be taken for the node. Throws OperatorError. */
async function checkAddress({ node, file }: Config, http: NodeHttp): Promise<void> {
  const { answers } = await http.ready(ASK_MS)
  if (!answers) return
  throw new OperatorError(`node ${node} does not run, but another program answers at ${http.url}`, {
    hint: `end that program, or change listen in ${file}`,
  })
}

/** Builds a missing etcd once: every node would build etcd at its start. Throws NoEtcd. */
function findEtcdFor(configs: readonly Config[]): void {
  const members = configs.flatMap(({ ledger: { member } }) => (member ? [member] : []))
  for (const named of new Set(members.map(({ etcd }) => etcd)))
    findEtcd(named, (text) => note(`coffer: ${text}`))
}

/** Runs `coffer start` in a session of its own: the node outlives the command and its terminal. */
function spawnNode({ file, node }: Config): StartedProcess {
  const run = join(dirname(file), 'run')
  const log = join(run, `${node}.log`)
  mkdirSync(run, { recursive: true, mode: 0o700 })
  const output = openSync(log, 'a', 0o600)
  try {
    const logStart = fstatSync(output).size
    const main = import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js'
    const path = fileURLToPath(new URL(main, import.meta.url))
    const flags = [NO_DEBUGGER, '--disable-warning=ExperimentalWarning', path, 'start', '--config', file]
    // An API key is for clients, and not for the environment of a long-lived server.
    const { COFFER_KEY: _, ...env } = process.env
    const child = spawn(process.execPath, flags, { detached: true, stdio: ['ignore', output, output], env })
    child.on('error', () => undefined) // the child then has no pid, and counts as ended
    child.unref()
    return { child, log, logStart }
  } finally {
    closeSync(output)
  }
}

async function untilReady(starting: readonly StartingNode[], waitMs: number): Promise<void> {
  let nodes = starting
  const began = performance.now()
  const progress = await startProgress({ label: 'waiting for the nodes', unit: 's' })
  try {
    for (;;) {
      nodes = nodes.map(startedIfGone)
      const answers = await Promise.all(nodes.map(({ http }) => http.ready(ASK_MS)))
      const ended = nodes.filter(hasEnded)
      if (ended.length > 0) throw new OperatorError(ended.map(describeEnd).join('\n'))
      const waiting = nodes.flatMap(({ config }, i) =>
        answers[i].ready ? [] : [{ config, answer: answers[i] }],
      )
      if (waiting.length === 0) return
      const passedMs = performance.now() - began
      if (passedMs > waitMs) throw new OperatorError(waiting.map((each) => notReady(each, waitMs)).join('\n'))
      const names = waiting.map(({ config }) => config.node).join(', ')
      progress.show(Math.floor(passedMs / 1000), `waiting for ${names}`)
      await sleep(POLL_MS)
    }
  } finally {
    progress.end()
  }
}

/** Starts a node that was still stopping when the command began, and has ended since. */
function startedIfGone(node: StartingNode): StartingNode {
  const gone = node.started === undefined && runningNode(node.config) === undefined
  return gone ? { ...node, started: spawnNode(node.config) } : node
}

/** If another command has started the same node at the same time, the node runs, and counts as not ended. */
function hasEnded({ config, started }: StartingNode): boolean {
  if (!started) return false
  const { pid, exitCode, signalCode } = started.child
  const ended = pid === undefined || exitCode !== null || signalCode !== null
  return ended && runningNode(config) === undefined
}

type UnreadyNode = { readonly config: Config; readonly answer: Readiness }

function notReady({ config, answer }: UnreadyNode, waitMs: number): string {
  const log = join(dirname(config.file), 'run', `${config.node}.log`)
  const hint = existsSync(log) ? `; its log: ${log}` : ''
  return `node ${config.node} is not ready after ${waitMs / 1000} s: ${answer.reasons.join('; ')}${hint}`
}

/** How the node ended, with the message at the end of the log. */
function describeEnd({ config, started }: StartingNode): string {
  if (!started) return `node ${config.node} has ended`
  const { child, log, logStart } = started
  const how = child.signalCode ?? (child.exitCode === null ? 'not started' : `exit code ${child.exitCode}`)
  const lines = readFileSync(log).subarray(logStart).toString('utf8').trimEnd().split('\n')
  const message = lines.findLastIndex((line) => line.startsWith('coffer: '))
  const shown = message < 0 ? lines.slice(-3) : lines.slice(message)
  const text = shown.map((line) => `\n  ${line}`).join('')
  return `node ${config.node} has ended before it was ready (${how}); its log: ${log}${text}`
}
