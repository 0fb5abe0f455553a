// An operator at work during faults: changes of API keys and of the keyring by the command line. What a command has
// acknowledged (exit 0) must hold after the fault; what was interrupted may hold or not.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { coffer, spawnCoffer } from '../cli/cli.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { Violation } from '../sim/judge.ts'
import type { Random } from '../sim/seed.ts'

const COMMAND_MS = 60_000
const MOST_ROOT_KEYS = 12

type ApiKey = { readonly owner: string; readonly id: string; readonly key: string; readonly removed: boolean }

export class Operator {
  /** Commands that ended well, and that failed, by name. */
  readonly counts = new Map<string, number>()
  readonly #cluster: Cluster
  readonly #random: Random
  #apiKeys: readonly ApiKey[] = []
  #rootKeys: readonly string[] = []
  #active: string | undefined

  #child: ChildProcess | undefined
  /** What the last command that failed has said. */
  #failure: string | undefined

  constructor(cluster: Cluster, random: Random) {
    this.#cluster = cluster
    this.#random = random
  }

  /** One command; its failure is no fault. Throws Violation where a command prints what is not JSON. */
  async work(): Promise<void> {
    const kind = this.#random.below(5)
    if (kind === 0) return this.#addApiKey()
    if (kind === 1) return this.#removeApiKey()
    if (this.#rootKeys.length === 0 || (kind === 2 && this.#rootKeys.length < MOST_ROOT_KEYS))
      return this.#addRootKey()
    if (kind === 3) return this.#activate()
    await this.#run(['keyring', 'rewrap'])
  }

  /** As `work`, where nothing is wrong. Throws Violation where a command fails. */
  async mustWork(): Promise<void> {
    this.#failure = undefined
    await this.work()
    if (this.#failure !== undefined) throw new Violation(`a command fails without a fault: ${this.#failure}`)
  }

  /** Ends a command in the middle. */
  interrupt(): void {
    this.#child?.kill('SIGKILL')
  }

  /** The result; undefined where the command has failed. */
  async #run(args: readonly string[]): Promise<Readonly<Record<string, unknown>> | undefined> {
    const { configs } = this.#cluster
    const command = [...args, '--config', ...configs, '--json']
    const child = spawnCoffer(command)
    this.#child = child
    const timer = setTimeout(() => child.kill('SIGKILL'), COMMAND_MS)
    assert.ok(child.stdout && child.stderr)
    const [stdout, stderr, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close'),
    ])
    clearTimeout(timer)
    this.#child = undefined
    const name = `coffer ${args.slice(0, 2).join(' ')}: ${code === 0 ? 'done' : 'failed'}`
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1)
    if (code !== 0) this.#failure = `${args.join(' ')}: ${stderr}`
    return code === 0 ? JSON.parse(stdout) : undefined
  }

  async #addApiKey(): Promise<void> {
    const owner = this.#random.pick(['a', 'b'])
    const result = await this.#run(['keys', 'add', '--owner', owner])
    if (!result) return
    const { id, key } = result
    if (typeof id !== 'string' || typeof key !== 'string') throw new Violation('keys add has no key')
    this.#apiKeys = [...this.#apiKeys, { owner, id, key, removed: false }]
  }

  async #removeApiKey(): Promise<void> {
    const present = this.#apiKeys.filter(({ removed }) => !removed)
    if (present.length === 0) return this.#addApiKey()
    const gone = this.#random.pick(present)
    const result = await this.#run(['keys', 'remove', '--owner', gone.owner, '--id', gone.id])
    if (!result) {
      this.#apiKeys = this.#apiKeys.filter((each) => each !== gone)
      return
    }
    this.#apiKeys = this.#apiKeys.map((each) => (each === gone ? { ...each, removed: true } : each))
  }

  async #addRootKey(): Promise<void> {
    const result = await this.#run(['keyring', 'add'])
    if (typeof result?.added === 'string') this.#rootKeys = [...this.#rootKeys, result.added]
  }

  async #activate(): Promise<void> {
    const id = this.#random.pick(this.#rootKeys)
    this.#active = undefined
    if (await this.#run(['keyring', 'activate', id])) this.#active = id
  }

  /** What was acknowledged holds on every node. Throws Violation. */
  async check(): Promise<void> {
    for (const { key, id, removed } of this.#apiKeys) {
      for (const node of this.#cluster.nodes) {
        const { status, json } = await node.ask('/whoami', undefined, key)
        if (removed ? status !== 401 : status !== 200 || json.key_id !== id)
          throw new Violation(`law 1: the API key ${id} is ${removed ? 'back' : 'gone'} on ${node.name}`)
      }
    }
    for (const node of this.#cluster.nodes) {
      const { root_keys: ids } = (await node.ask('/status')).json
      for (const id of this.#rootKeys)
        if (!Array.isArray(ids) || !ids.includes(id))
          throw new Violation(`law 1: ${node.name} lacks root key ${id}`)
    }
    const { configs } = this.#cluster
    const { code, stdout, stderr } = await coffer(['keyring', 'list', '--config', ...configs, '--json'])
    if (code !== 0) throw new Violation(`the keyring cannot be listed: ${stderr}`)
    for (const id of this.#rootKeys)
      if (!stdout.includes(id)) throw new Violation(`law 1: root key ${id} is gone`)
    const listed: { root_keys: { id: string; active: boolean }[] } = JSON.parse(stdout)
    const active = listed.root_keys.find((each) => each.active)?.id
    if (this.#active !== undefined && active !== this.#active)
      throw new Violation(`law 1: root key ${active} is active, and ${this.#active} was activated`)
  }
}
