// Three nodes of another user, operated by root as with sudo: they start again, and all files keep their owners and
// modes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, renameSync } from 'node:fs'
import { test } from 'node:test'
import { findEtcd } from '../../src/node/etcd-binary.ts'
import { Folder, fine, init, NodeProcess } from '../cli/cli.ts'
import { attributesOf, NOBODY, withoutNobody } from '../cli/other-user.ts'
import { freeCluster } from './cluster.ts'

const NODES = ['n1', 'n2', 'n3']
const LONG_MS = 40_000

/** The directory of a vault, and its nodes. */
class Vault implements AsyncDisposable {
  readonly dir: string
  readonly #etcd: string
  readonly #nodes = new Map<string, NodeProcess>()

  private constructor(dir: string, etcd: string) {
    this.dir = dir
    this.#etcd = etcd
  }

  /** In `folder`, with a copy of etcd that other users can run. The keyring is that of `like`. */
  static async make(folder: Folder, name: string, like?: Vault): Promise<Vault> {
    const vault = new Vault(folder.file(name), folder.file('etcd'))
    await init(vault.dir, '--nodes', '3', '--port', String(await freeCluster()))
    if (like) copyFileSync(`${like.dir}/keyring.json`, `${vault.dir}/keyring.json`)
    execFileSync('chown', ['-R', `${NOBODY.uid}:${NOBODY.gid}`, vault.dir])
    return vault
  }

  config(node: string): string {
    return `${this.dir}/${node}.yaml`
  }

  /** As the arguments of `--config`. */
  get configs(): string[] {
    return NODES.flatMap((node) => ['--config', this.config(node)])
  }

  /** All files that commands and nodes keep: without data of etcd, locks and process ids. */
  get files(): string[] {
    return attributesOf(this.dir).filter(
      (line) => !/^\S*(etcd\/\S+|etcd\.replaced\S*|clean-stop|\.pid|\.lock|\.old) /.test(line),
    )
  }

  async start(...nodes: string[]): Promise<void> {
    const options = { user: NOBODY, env: { COFFER_ETCD: this.#etcd, HOME: this.dir } }
    await Promise.all(
      nodes.map(async (node) => {
        this.#nodes.set(node, await NodeProcess.start(this.config(node), LONG_MS, options))
      }),
    )
  }

  async stop(...nodes: string[]): Promise<void> {
    await Promise.all(
      nodes.map(async (node) => {
        assert.equal(await this.#nodes.get(node)?.stop(), 0, node)
        this.#nodes.delete(node)
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.#nodes.values()) await node[Symbol.asyncDispose]()
  }
}

test('commands of root leave three nodes to their user, who start again with files as before', {
  skip: withoutNobody(),
}, async (t) => {
  using folder = new Folder()
  chmodSync(folder.path, 0o755)
  copyFileSync(findEtcd(undefined, () => undefined).path, folder.file('etcd'))
  chmodSync(folder.file('etcd'), 0o755)
  await using vault = await Vault.make(folder, 'v')
  await vault.start(...NODES)
  const before = vault.files
  const unchanged = (what: string): void => {
    assert.deepEqual(vault.files, before, what)
    t.diagnostic(`${what}: ready again, ${before.length} files with owners and modes as before`)
  }
  const run = (...args: string[]): Promise<string> =>
    fine(args, { ms: LONG_MS, env: { COFFER_ETCD: folder.file('etcd') } })

  await run('init', vault.dir, '--renew')
  await vault.stop('n1')
  await vault.start('n1')
  unchanged('init --renew')
  await run('keyring', 'add', ...vault.configs)
  await run('backup', '-o', folder.file('backup'), '--config', vault.config('n1'))

  await vault.stop('n2')
  renameSync(`${vault.dir}/n2/etcd`, folder.file('lost'))
  await run('member', 'replace', 'n2', '--config', vault.config('n2'))
  await vault.start('n2')
  unchanged('keyring add, backup, member replace')

  await vault.stop(...NODES)
  await using copy = await Vault.make(folder, 'w', vault)
  await run('restore', folder.file('backup'), '--config', copy.config('n1'))
  await copy.start(...NODES)
  for (const { dir } of [vault, copy])
    for (const line of attributesOf(dir)) assert.match(line, / 65534:65534 [0-7]+$/)
})
