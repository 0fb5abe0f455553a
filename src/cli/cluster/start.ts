// coffer cluster start: runs what does not run, in the background, and waits until all nodes are ready.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { findEtcd } from '../../node/etcd-binary.ts'
import { sleep } from '../../waiting.ts'
import { Probe, type Readiness } from '../local/probe.ts'
import { running } from '../local/running.ts'
import { note } from '../terminal/terminal.ts'

const POLL_MS = 100
const ASK_MS = 2_000

/** A node that is to be ready. */
type Awaited = {
  readonly config: Config
  readonly probe: Probe
  /** The process that was started here; undefined where it ran already. */
  readonly started?: Started
}

/** `from` is where its log begins, in bytes of the file: before that is what earlier ones wrote. */
type Started = { readonly child: ChildProcess; readonly log: string; readonly from: number }

export type Up = { readonly node: string; readonly url: string; readonly pid: number | undefined }

/** Resolves when all are ready at the same time. Throws OperatorError, NoEtcd. */
export async function startNodes(configs: readonly Config[], waitMs: number): Promise<Up[]> {
  const nodes = configs.map((config) => ({ config, probe: new Probe(config) }))
  try {
    const down = new Set(configs.filter((config) => running(config) === undefined))
    for (const { config, probe } of nodes) if (down.has(config)) await checkAddress(config, probe)
    findEtcdFor([...down])
    const awaited = nodes.map((node) =>
      down.has(node.config) ? { ...node, started: spawnNode(node.config) } : node,
    )
    await untilReady(awaited, waitMs)
    return nodes.map(({ config, probe }) => ({
      node: config.node,
      url: probe.url,
      pid: running(config)?.pid,
    }))
  } finally {
    for (const { probe } of nodes) probe.close()
  }
}

/** Another vault's node would be taken for this one. Throws OperatorError. */
async function checkAddress({ node, file }: Config, probe: Probe): Promise<void> {
  const { answers } = await probe.ready(ASK_MS)
  if (!answers) return
  throw new OperatorError(
    `node ${node} does not run, but something answers at ${probe.url}: end that, or change listen in ${file}`,
  )
}

/** Before the nodes look for it: it may have to be built, and each of them would begin to. Throws NoEtcd. */
function findEtcdFor(configs: readonly Config[]): void {
  const members = configs.flatMap(({ ledger: { member } }) => (member ? [member] : []))
  for (const named of new Set(members.map(({ etcd }) => etcd)))
    findEtcd(named, (text) => note(`coffer: ${text}`))
}

/** `coffer start`, in a session of its own: what ends this command or its terminal does not end it. */
function spawnNode({ file, node }: Config): Started {
  const run = join(dirname(file), 'run')
  const log = join(run, `${node}.log`)
  mkdirSync(run, { recursive: true, mode: 0o700 })
  const output = openSync(log, 'a', 0o600)
  try {
    const from = fstatSync(output).size
    const main = import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js'
    const path = fileURLToPath(new URL(main, import.meta.url))
    const flags = ['--disable-warning=ExperimentalWarning', path, 'start', '--config', file]
    // An API key is for clients: a server's environment lives long, and is no place for one.
    const { COFFER_KEY: _, ...env } = process.env
    const child = spawn(process.execPath, flags, { detached: true, stdio: ['ignore', output, output], env })
    child.on('error', () => undefined) // it has no pid then, and counts as ended
    child.unref()
    return { child, log, from }
  } finally {
    closeSync(output)
  }
}

async function untilReady(nodes: readonly Awaited[], waitMs: number): Promise<void> {
  const began = performance.now()
  const progress = new Progress()
  try {
    for (;;) {
      const answers = await Promise.all(nodes.map(({ probe }) => probe.ready(ASK_MS)))
      const ended = nodes.filter(hasEnded)
      if (ended.length > 0) throw new OperatorError(ended.map(lastWords).join('\n'))
      const waiting = nodes.flatMap(({ config }, i) =>
        answers[i].ready ? [] : [{ config, answer: answers[i] }],
      )
      if (waiting.length === 0) return
      const passed = performance.now() - began
      if (passed > waitMs) throw new OperatorError(waiting.map((each) => notReady(each, waitMs)).join('\n'))
      progress.show(
        waiting.map(({ config }) => config.node),
        passed,
      )
      await sleep(POLL_MS)
    }
  } finally {
    progress.clear()
  }
}

/** Where somebody else has started the same node at the same time, theirs is the one to wait for. */
function hasEnded({ config, started }: Awaited): boolean {
  if (!started) return false
  const { pid, exitCode, signalCode } = started.child
  const ended = pid === undefined || exitCode !== null || signalCode !== null
  return ended && running(config) === undefined
}

function notReady(
  { config, answer }: { readonly config: Config; readonly answer: Readiness },
  waitMs: number,
): string {
  const log = join(dirname(config.file), 'run', `${config.node}.log`)
  const seen = existsSync(log) ? `; its log: ${log}` : ''
  return `node ${config.node} is not ready after ${waitMs / 1000} s: ${answer.reasons.join('; ')}${seen}`
}

/** What a node has left that did not come up. */
function lastWords({ config, started }: Awaited): string {
  if (!started) return `node ${config.node} has ended`
  const { child, log, from } = started
  const how = child.signalCode ?? (child.exitCode === null ? 'not started' : `exit code ${child.exitCode}`)
  const lines = readFileSync(log).subarray(from).toString('utf8').trimEnd().split('\n')
  const first = lines.findLastIndex((line) => line.startsWith('coffer: '))
  const told = (first < 0 ? lines.slice(-3) : lines.slice(first)).map((line) => `\n  ${line}`).join('')
  return `node ${config.node} has ended before it was ready (${how}); its log: ${log}${told}`
}

/** One line that is written over; nothing where stderr is no terminal. */
class Progress {
  #shown = false

  show(nodes: readonly string[], ms: number): void {
    if (!process.stderr.isTTY) return
    process.stderr.write(`\r\x1b[Kwaiting for ${nodes.join(', ')}: ${Math.floor(ms / 1000)} s`)
    this.#shown = true
  }

  clear(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K')
  }
}
