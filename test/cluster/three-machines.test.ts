// A vault of three nodes on three machines loses its data and is restored by the commands of docs/operating.md. Each
// machine is a directory with the files of its own node alone.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import { EtcdLedger } from '../../src/ledger/etcd.ts'
import { readConfig } from '../../src/node/config.ts'
import { readLedgerTls } from '../../src/node/tls-files.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { Folder, init, isAlive, refused, spawnCoffer, until } from '../cli/cli.ts'
import { freeCluster } from './cluster.ts'

const ROOT = join(import.meta.dirname, '../..')
const NODES = ['n1', 'n2', 'n3'] as const
const LONG_MS = 60_000
const LONG = { ms: LONG_MS }

type Command = { readonly node: (typeof NODES)[number]; readonly text: string }

/** The commands of each block in the section, `n1$ COMMAND`. */
function documented(): Command[][] {
  const text = readFileSync(join(ROOT, 'docs/operating.md'), 'utf8')
  const [, after = ''] = text.split('\n### Restore over three machines\n')
  const [section] = after.split(/^#{1,3} /m)
  return [...section.matchAll(/^```console\n([\s\S]*?)^```$/gm)].map(([, block]) =>
    [...block.matchAll(/^(n[123])\$ (.*)$/gm)].map(([, node, command]) => ({
      node: NODES.find((each) => each === node) ?? assert.fail(node),
      text: command,
    })),
  )
}

class Machine {
  readonly dir: string
  readonly config: string
  readonly node: string
  readonly told: string[] = []
  child: ChildProcess | undefined

  constructor(folder: Folder, node: string) {
    this.dir = folder.file(`machine-${node}`)
    this.config = join(this.dir, `${node}.yaml`)
    this.node = node
  }

  /** Copies what the documents say that a machine gets. */
  receive(vault: string): void {
    mkdirSync(join(this.dir, 'tls'), { recursive: true })
    const { node } = this
    for (const name of [`${node}.yaml`, 'keyring.json', 'tls/ca.crt', `tls/${node}.crt`, `tls/${node}.key`])
      cpSync(join(vault, name), join(this.dir, name), { preserveTimestamps: true })
  }

  /** Runs a line of a shell, with `coffer` on its PATH. */
  run(command: string, bin: string): ChildProcess {
    const own = Object.entries(process.env).filter(([name]) => !/^(COFFER_|NODE_TEST_CONTEXT)/.test(name))
    const env = { ...Object.fromEntries(own), PATH: `${bin}:${process.env.PATH}` }
    const child = spawn('/bin/sh', ['-c', `exec ${command}`], { cwd: this.dir, env, stdio: 'pipe' })
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => this.told.push(line))
    return child
  }

  /** Waits for a line of the process that runs. */
  async tells(pattern: RegExp): Promise<void> {
    const look = (): boolean => {
      assert.equal(this.child?.exitCode ?? null, null, this.told.join('\n'))
      return this.told.some((line) => pattern.test(line))
    }
    await until(`${this.node} tells ${pattern}`, look, LONG_MS)
  }

  /** The exit code. */
  async end(signal: NodeJS.Signals = 'SIGINT'): Promise<number | null> {
    const { child } = this
    this.child = undefined
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    const ended = once(child, 'exit')
    child.kill(signal)
    return (await ended)[0]
  }

  pidFile(name: string): string {
    return join(this.dir, 'run', `${this.node}.${name}`)
  }
}

type Content = {
  readonly values: readonly unknown[]
  readonly epochs: unknown
  readonly histories: readonly unknown[]
  readonly secrets: readonly unknown[]
}

describe('three machines', () => {
  const folder = new Folder()
  const bin = folder.file('bin')
  const machines = NODES.map((node) => new Machine(folder, node))
  const [n1, n2, n3] = machines
  let [backup, members, start]: readonly Command[][] = []
  let keys: Readonly<Record<string, string>> = {}
  let tokens: Record<string, string[]> = {}
  let port = 0
  let lost: { readonly identity: string; readonly digest: string; readonly content: readonly Content[] }

  const machineOf = ({ node }: Command): Machine => machines[NODES.indexOf(node)]
  const run = async (command: Command): Promise<void> => {
    const machine = machineOf(command)
    const child = machine.run(command.text, bin)
    if (/coffer (start|member run) /.test(command.text)) {
      machine.child = child
      return
    }
    const [code] = await once(child, 'close')
    assert.equal(code, 0, `${command.text}\n${machine.told.join('\n')}`)
  }
  const startAll = async (): Promise<void> => {
    for (const machine of machines) machine.told.length = 0
    for (const command of start) await run(command)
    for (const machine of machines) await machine.tells(/"msg":"ready"/)
  }
  const clientOf = (machine: Machine, owner: string): Coffer =>
    new Coffer({ urls: `http://127.0.0.1:${port + 10 * machines.indexOf(machine)}`, key: keys[owner] })

  /** What each owner stores, as a machine answers. */
  async function contentOf(machine: Machine): Promise<Content[]> {
    const found: Content[] = []
    for (const owner of ['a', 'b']) {
      const client = clientOf(machine, owner)
      const names = ['app/changed', 'bulk/0', 'bulk/499']
      const histories = await Promise.all(names.map((name) => client.secretHistory(name)))
      const versions = histories.flatMap(({ name, versions }) =>
        versions.map(({ version }) => client.secret(name, { version })),
      )
      const { values } = await client.detokenize(tokens[owner])
      found.push({ values, epochs: await client.epochs(), histories, secrets: await Promise.all(versions) })
      client.close()
    }
    return found
  }

  /** Digests and identities, once all machines are at one revision. */
  async function statuses(): Promise<{ digests: string[]; identities: string[] }> {
    const clients = machines.map((machine) => clientOf(machine, 'a'))
    try {
      return await until('one revision', async () => {
        const all = await Promise.all(clients.map((client) => client.status()))
        const revisions = new Set(all.flatMap(({ ledger, replica }) => [ledger.revision, replica.revision]))
        if (revisions.size > 1) return undefined
        return {
          digests: [...new Set(all.map(({ replica }) => String(replica.digest)))],
          identities: [...new Set(all.map(({ ledger }) => String(ledger.identity)))],
        }
      })
    } finally {
      for (const client of clients) client.close()
    }
  }

  before(async () => {
    const blocks = documented()
    assert.equal(blocks.length, 3, 'blocks: backup; members and restore; start')
    ;[backup, members, start] = blocks
    mkdirSync(bin)
    const main = join(ROOT, 'src/cli/main.ts')
    const flags = '--disable-warning=ExperimentalWarning'
    writeFileSync(join(bin, 'coffer'), `#!/bin/sh\nexec '${process.execPath}' ${flags} '${main}' "$@"\n`)
    chmodSync(join(bin, 'coffer'), 0o755)
    port = await freeCluster()
    const owners = ['--owner', 'a', '--owner', 'b']
    keys = await init(folder.file('made'), '--nodes', '3', ...owners, '--port', String(port))
    for (const machine of machines) machine.receive(folder.file('made'))
    rmSync(folder.file('made'), { recursive: true })
  })
  after(async () => {
    for (const machine of machines) await machine.end('SIGKILL')
    folder[Symbol.dispose]()
  })

  test('a vault with tokens of two epochs and secrets with a history; its backup; all data is gone', async () => {
    for (const command of start.filter(({ text }) => !text.includes('replica reset'))) await run(command)
    for (const machine of machines) await machine.tells(/"msg":"ready"/)
    for (const owner of ['a', 'b']) {
      const client = clientOf(n2, owner)
      const values = Array.from({ length: 3000 }, (_, i) => `${owner} ${i}`)
      const { tokens: first } = await client.tokenize(values)
      await client.rotateEpoch(2)
      const { tokens: second } = await client.tokenize([...values.slice(0, 500), 'only in epoch 2'])
      tokens = { ...tokens, [owner]: [...first, ...second].map(String) }
      for (let from = 0; from < 3000; from += 500) {
        const secrets = Array.from({ length: 500 }, (_, i) => ({
          name: `bulk/${from + i}`,
          value: `${owner} ${i}`,
        }))
        await client.createSecrets(secrets)
      }
      await client.createSecret('app/changed', 'first')
      for (const value of ['second', 'third']) await client.updateSecret('app/changed', value)
      client.close()
    }
    const { digests, identities } = await statuses()
    const content = await contentOf(n1)
    lost = { identity: identities[0], digest: digests[0], content }
    for (const command of backup) await run(command)
    for (const machine of machines) assert.equal(await machine.end('SIGTERM'), 0)
    // Of n3 a replica is left, as on a disk of its own.
    const replica = folder.file('replica')
    cpSync(join(n3.dir, 'n3/replica'), replica, { recursive: true })
    for (const { dir, node } of machines) rmSync(join(dir, node), { recursive: true })
    cpSync(replica, join(n3.dir, 'n3/replica'), { recursive: true })
  })

  test('a member whose data is gone is not run empty, and the message names the way out', async () => {
    for (const command of [
      ['member', 'run', '--config', n1.config],
      ['restore', join(n1.dir, 'vault.backup'), '--config', n1.config],
    ]) {
      const told = await refused(1, command)
      assert.match(
        told,
        /data of member n1 is gone.*give all nodes another ledger\.member\.token, and restore/,
      )
    }
  })

  test('a restore without the other machines tells their commands', async () => {
    for (const command of members.filter(({ text }) => text.startsWith('sed '))) await run(command)
    const told = await refused(1, ['restore', join(n1.dir, 'vault.backup'), '--config', n1.config], LONG)
    assert.match(told, /the ledger has no quorum/)
    for (const node of ['n2', 'n3'])
      assert.match(
        told,
        new RegExp(`on the machine of node ${node} run \`coffer member run --config ${node}.yaml\``),
      )
  })

  test('members run alone: no vault starts beside them, and an interrupted restore can be repeated', async () => {
    for (const machine of machines) machine.told.length = 0
    for (const command of members.filter(({ text }) => text.includes('member run'))) await run(command)
    for (const machine of machines) await machine.tells(/^the members have quorum \(ready: .*n\d/)
    assert.ok(isAlive(Number(readFileSync(n2.pidFile('etcd.pid'), 'utf8'))))
    assert.ok(!existsSync(n2.pidFile('pid')))
    assert.match(await refused(1, ['start', '--config', n2.config]), /end `coffer member run` first/)
    assert.match(
      await refused(1, ['member', 'run', '--config', n2.config]),
      /end `coffer member run` of node n2/,
    )

    const { ledger: settings } = readConfig(n1.config)
    const ledger = new EtcdLedger(settings.endpoints, settings.tls && readLedgerTls(settings.tls))
    try {
      for (const signal of ['SIGKILL', 'SIGINT'] as const) {
        const head = await ledger.head()
        const child = spawnCoffer(['restore', join(n1.dir, 'vault.backup'), '--config', n1.config])
        const ended = once(child, 'exit')
        for await (const _ of ledger.follow(head)) break // the first entries are there
        child.kill(signal)
        assert.deepEqual(await ended, [null, signal])
        assert.equal((await ledger.read(ledgerKey.genesis)).value, null)
      }
    } finally {
      await ledger.close()
    }
  })

  test('the documented commands: everything is there on each machine, in a new ledger', async () => {
    const [restore] = members.filter(({ text }) => text.includes('coffer restore'))
    await run(restore)
    assert.match(
      machineOf(restore).told.join('\n'),
      /Next, for every node on its machine: end `coffer member run`/,
    )
    const [first, ...rest] = machines
    assert.equal(await first.end('SIGTERM'), 0)
    for (const machine of rest) assert.equal(await machine.end('SIGINT'), 0)
    await startAll()
    const { digests, identities } = await statuses()
    assert.deepEqual(digests, [lost.digest])
    assert.equal(identities.length, 1)
    assert.notEqual(identities[0], lost.identity)
    for (const machine of machines) assert.deepEqual(await contentOf(machine), lost.content)
  })

  test('data of another cluster is in the way, and is not run', async () => {
    for (const machine of machines) assert.equal(await machine.end('SIGTERM'), 0)
    const text = readFileSync(n1.config, 'utf8')
    writeFileSync(n1.config, text.replace(/token: .*/, 'token: coffer-another'))
    const told = await refused(1, ['member', 'run', '--config', n1.config])
    assert.match(told, /n1\/etcd has the data of member n1 in another cluster.*move the directory/)
    assert.ok(existsSync(join(dirname(n1.config), 'n1/etcd/member/wal')))
  })
})
