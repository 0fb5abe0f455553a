// Makes the fixture of the present format: `node test/upgrade/make.ts`. Run once a format, before its first release;
// the fixture of a released format never changes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'
import { Folder, fine, init, NodeProcess, until } from '../cli/cli.ts'
import { CLUSTER_PORT, type Expected, type FixtureValue, fixtureFile, type Kept } from './fixture.ts'

const MOST_BYTES = 300 * 1024
const OWNERS = ['clinic-a', 'clinic-b']
const INIT = [...OWNERS.flatMap((owner) => ['--owner', owner]), '--field', 'patient.ssn']

type Call = {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}
type Answer = { readonly status: number; readonly text: string; readonly json: Record<string, unknown> }
type Status = {
  readonly ledger: { readonly identity: string; readonly revision: number }
  readonly replica: { readonly digest: string; readonly revision: number }
}
type Mutable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] }

/** Fills a vault with a few entries of every kind, over its nodes in turn. */
class Filler {
  readonly #urls: readonly string[]
  readonly #keys: Readonly<Record<string, string>>
  #calls = 0
  readonly kept: Mutable<Kept>

  constructor(urls: readonly string[], keys: Readonly<Record<string, string>>) {
    this.#urls = urls
    this.#keys = keys
    this.kept = { owners: keys, tokens: [], secrets: [], receipts: [], identity: '', digest: '' }
  }

  async #call(
    owner: string,
    path: string,
    { method = 'POST', headers = {}, body }: Call = {},
  ): Promise<Answer> {
    const url = this.#urls[this.#calls++ % this.#urls.length]
    const sent = body === undefined ? {} : { 'content-type': 'application/json' }
    const answer = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${this.#keys[owner]}`, ...sent, ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    assert.ok(answer.ok, `${method} ${path}: ${text}`)
    return { status: answer.status, text, json: JSON.parse(text) }
  }

  async #tokens(owner: string, values: FixtureValue[]): Promise<void> {
    const { json } = await this.#call(owner, '/tokenize', { body: { values } })
    this.kept.tokens.push({ owner, values, tokens: json.tokens as string[] })
  }

  async #secret(owner: string, name: string, values: readonly [string, ...string[]]): Promise<void> {
    const [first, ...others] = values
    await this.#call(owner, '/secrets', { body: { name, value: first } })
    for (const value of others)
      await this.#call(owner, `/secrets/${name}`, { method: 'PUT', body: { value } })
    await this.#history(owner, name, values)
  }

  async #history(owner: string, name: string, values: readonly string[]): Promise<void> {
    const { json } = await this.#call(owner, `/secrets/${name}/history`, { method: 'GET' })
    this.kept.secrets.push({ owner, name, values, history: json })
  }

  async #underKey(owner: string, path: string, { method = 'POST', headers = {}, body }: Call): Promise<void> {
    const { status, text } = await this.#call(owner, path, { method, headers, body })
    this.kept.receipts.push({
      owner,
      method,
      path,
      headers,
      body: JSON.stringify(body),
      status,
      answer: text,
    })
  }

  async fill(): Promise<Kept> {
    const values = ['999-12-3456', 17, -0.5, true, false, 'Zoë 💊', '', 'x'.repeat(1000)]
    for (const owner of OWNERS) await this.#tokens(owner, values)
    await this.#call('clinic-a', '/rotate-epoch', { body: { to: 2 } })
    await this.#tokens('clinic-a', ['999-12-3456', 'of the second epoch'])
    await this.#tokens(
      'clinic-b',
      Array.from({ length: 100 }, (_, i) => `value ${i}`),
    )
    for (const owner of OWNERS)
      await this.#secret(owner, 'app/prod/DB_URL', ['postgres://u:p@db/app', 'postgres://u:q@db/app', ''])
    await this.#call('clinic-a', '/secrets', {
      body: {
        secrets: [
          { name: 'a', value: 'Zoë 💊' },
          { name: 'a/1', value: 'x'.repeat(1000) },
        ],
      },
    })
    await this.#history('clinic-a', 'a', ['Zoë 💊'])
    await this.#history('clinic-a', 'a/1', ['x'.repeat(1000)])
    await this.#underKey('clinic-a', '/secrets', {
      headers: { 'idempotency-key': 'job-17' },
      body: { name: 'app/prod/MAIL_KEY', value: 'k1' },
    })
    await this.#underKey('clinic-a', '/secrets/app/prod/MAIL_KEY', {
      method: 'PUT',
      headers: { 'idempotency-key': 'job-18', 'if-match': '"1"' },
      body: { value: 'k2' },
    })
    const { ledger, replica } = await until('all nodes have applied the last write', () => this.#agreed())
    this.kept.identity = ledger.identity
    this.kept.digest = replica.digest
    return this.kept
  }

  /** The status of all nodes; undefined while a node is behind. */
  async #agreed(): Promise<Status | undefined> {
    const statuses: Status[] = []
    for (const _ of this.#urls) {
      await this.#call('clinic-a', '/secrets', { method: 'GET' }) // every call passes a barrier of its node
    }
    for (const _ of this.#urls)
      statuses.push((await this.#call('clinic-a', '/status', { method: 'GET' })).json as Status)
    const [first] = statuses
    const same = statuses.every(({ replica }) => replica.revision === first.ledger.revision)
    if (!same) return undefined
    assert.ok(
      statuses.every(({ replica }) => replica.digest === first.replica.digest),
      'replicas at a revision are equal',
    )
    return first
  }
}

/** Files of zeros in a vault are packed small: a member preallocates its log, and `cp` makes holes of zeros. */
function pack(name: 'node' | 'cluster', dir: string): void {
  const file = fixtureFile(LEDGER_FORMAT, `${name}.tar.gz`)
  rmSync(join(dir, 'run'), { recursive: true, force: true })
  execFileSync('cp', ['-a', '--sparse=always', dir, `${dir}-sparse`])
  const flags = ['--sparse', '--sort=name', '--owner=0', '--group=0', '--use-compress-program=gzip -9']
  execFileSync('tar', [...flags, '-cf', file, '-C', `${dir}-sparse`, '.'])
  const { size } = statSync(file)
  assert.ok(size < MOST_BYTES, `${file} has ${size} bytes`)
}

async function makeNode(folder: Folder): Promise<Pick<Expected, 'node' | 'backup'>> {
  const dir = folder.file('node')
  const keys = await init(dir, ...INIT, '--port', '0')
  const config = folder.file('node', 'n1.yaml')
  const running = await NodeProcess.start(config)
  let node: Kept
  try {
    node = await new Filler([running.url], keys).fill()
  } finally {
    assert.equal(await running.stop(), 0)
  }
  const out = fixtureFile(LEDGER_FORMAT, 'node.backup')
  const { file: _, ...backup } = JSON.parse(
    await fine(['backup', '-o', out, '--force', '--json', '--config', config]),
  )
  assert.equal(backup.digest, node.digest)
  pack('node', dir)
  return { node, backup }
}

async function makeCluster(folder: Folder): Promise<Kept> {
  const dir = folder.file('cluster')
  const keys = await init(dir, ...INIT, '--nodes', '3', '--port', String(CLUSTER_PORT))
  const { nodes } = JSON.parse(await fine(['cluster', 'start', dir, '--json'], { ms: 120_000 }))
  let kept: Kept
  try {
    kept = await new Filler(
      nodes.map(({ url }: { url: string }) => url),
      keys,
    ).fill()
  } finally {
    await fine(['cluster', 'stop', dir], { ms: 60_000 })
  }
  pack('cluster', dir)
  return kept
}

using folder = new Folder()
const target = fixtureFile(LEDGER_FORMAT, 'expected.json')
rmSync(dirname(target), { recursive: true, force: true })
mkdirSync(dirname(target))
const made: Expected = { ...(await makeNode(folder)), cluster: await makeCluster(folder) }
writeFileSync(target, `${JSON.stringify(made, null, 1)}\n`)
