// The stage of a demo: a temporary directory and real nodes in child processes, all removed at the end,
// whether the demo ends by itself, by an error or by a signal.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Coffer } from '../../client/index.ts'
import { findEtcd } from '../../node/etcd-binary.ts'
import { initCluster, initDirectory } from '../init.ts'
import { onParentEnd } from '../local/npm-parent.ts'
import { endProcess } from '../local/process-end.ts'
import { note } from '../terminal/terminal.ts'
import { watchOver } from './janitor.ts'
import { freeClusterPort } from './ports.ts'
import { commandLine, StageNode } from './stage-node.ts'
import { heading } from './story.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** A killed node takes its member with itself in less time, even a member just started. */
const MEMBER_MS = 100

/** For a call with all its tries: of three nodes an election on a busy machine takes some seconds. */
const CALL_MS = { 1: 5_000, 3: 30_000 }

type StageOptions = {
  readonly nodes: 1 | 3
  readonly owners: readonly string[]
  /** Paths of fields in records, replaced by tokens. */
  readonly fields: readonly string[]
  /** Resolves when the next chapter may begin. */
  readonly pause: () => Promise<void>
}

export class Stage implements AsyncDisposable {
  /** The directory of all files of the demo. */
  readonly dir: string
  readonly #pause: () => Promise<void>
  #nodes: readonly StageNode[] = []
  #keys: Readonly<Record<string, string>> = {}
  readonly #endWatch: () => void
  readonly #endJanitor: () => void
  #chapters = 0
  readonly #callMs: number
  readonly #clients: Coffer[] = []
  readonly #commands = new Set<ChildProcess>()

  private constructor({ pause, nodes }: StageOptions) {
    this.#pause = pause
    this.#callMs = CALL_MS[nodes]
    this.dir = mkdtempSync(join(tmpdir(), 'coffer-demo-'))
    this.#endJanitor = watchOver(this.dir)
    process.once('exit', this.#removeAll)
    for (const signal of SIGNALS) process.once(signal, this.#interrupted)
    this.#endWatch = onParentEnd(() => this.#interrupted('SIGTERM'))
  }

  /** Writes the vault's files; no node runs yet. Throws NoEtcd where three nodes have no etcd. */
  static async build(options: StageOptions): Promise<Stage> {
    if (options.nodes === 3) findEtcd(undefined, (line) => note(`coffer: ${line}`))
    const stage = new Stage(options)
    try {
      await stage.#init(options)
      return stage
    } catch (error) {
      await stage[Symbol.asyncDispose]()
      throw error
    }
  }

  async #init({ nodes, owners, fields }: StageOptions): Promise<void> {
    const dir = this.vaultDir
    const vault =
      nodes === 3
        ? await initCluster({ dir, owners, fields, port: await freeClusterPort() })
        : initDirectory({ dir, owners, fields, port: 0 })
    this.#keys = vault.owners
    this.#nodes = vault.configs.map((file) => new StageNode(file))
  }

  /** The directory with the vault's files. */
  get vaultDir(): string {
    return join(this.dir, 'vault')
  }

  get nodes(): readonly StageNode[] {
    return this.#nodes
  }

  /** Begins the next chapter. */
  async chapter(title: string): Promise<void> {
    if (this.#chapters > 0) await this.#pause()
    this.#chapters++
    heading(`${this.#chapters}. ${title}`)
  }

  /** Starts all nodes, and waits until all are ready. Throws OperatorError. */
  async start(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.start()))
  }

  /** A client of all nodes, or of some. */
  client(owner: string, nodes: readonly StageNode[] = this.#nodes): Coffer {
    const urls = nodes.map(({ url }) => url)
    const coffer = new Coffer({ urls, key: this.#keys[owner], timeoutMs: this.#callMs })
    this.#clients.push(coffer)
    return coffer
  }

  key(owner: string): string {
    return this.#keys[owner]
  }

  /** Runs the command line with an owner's key. `output`: the text of stdout, then the text of stderr. */
  async coffer(
    owner: string,
    args: readonly string[],
    { cwd, input }: { readonly cwd: string; readonly input: string },
  ): Promise<{ readonly code: number | null; readonly output: string }> {
    const { COFFER_CA: _, ...own } = process.env
    const env = {
      ...own,
      COFFER_URL: this.#nodes.map(({ url }) => url).join(),
      COFFER_KEY: this.#keys[owner],
    }
    const child = spawn(process.execPath, commandLine(args), { cwd, env })
    this.#commands.add(child)
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    child.stdin.on('error', () => undefined) // a command may end without reading its input
    child.stdin.end(input)
    const [code] = await once(child, 'close')
    this.#commands.delete(child)
    return { code, output: (await output).join('') }
  }

  /** Ends the nodes by SIGTERM. Returns the first exit code other than 0; null: a node had to be killed. */
  async stop(): Promise<number | null> {
    for (const coffer of this.#clients.splice(0)) coffer.close()
    const codes = await Promise.all(this.#nodes.map((node) => node.stop()))
    return codes.find((code) => code !== 0) ?? 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop()
    } finally {
      this.#removeAll()
      process.off('exit', this.#removeAll)
      for (const signal of SIGNALS) process.off(signal, this.#interrupted)
      this.#endWatch()
    }
  }

  readonly #interrupted = (signal: NodeJS.Signals): void => {
    // The handler of `exit` removes nodes and directory, even in the midst of a call.
    endProcess(128 + constants.signals[signal])
  }

  readonly #removeAll = (): void => {
    this.#endJanitor()
    for (const command of this.#commands) command.kill('SIGKILL')
    const ran = this.#nodes.some((node) => node.runs)
    for (const node of this.#nodes) node.killNow()
    // A member just started could make its directory again.
    if (ran && this.#nodes.length > 1) sleepNow(MEMBER_MS)
    // Until their end processes may write files: the first tries can find the directory not empty.
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}

/** Blocks the process: handlers of `exit` cannot wait otherwise. */
function sleepNow(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
