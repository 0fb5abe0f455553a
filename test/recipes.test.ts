// The recipes: each checked by the programs of the machine that read it, and against a node. Those of proxies are
// in test/cluster/proxies.test.ts.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, globSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseAllDocuments, parse as parseYaml } from 'yaml'
import { ROUTES } from '../src/http/routes.ts'
import { parseConfig } from '../src/node/config.ts'
import { Folder, startVault, until } from './cli/cli.ts'
import { programPath, without } from './programs.ts'

const ROOT = join(import.meta.dirname, '..')
const folder = new Folder()
let vault: Awaited<ReturnType<typeof startVault>>

before(async () => {
  vault = await startVault(folder)
})
after(async () => {
  vault.client.close()
  await vault.node.stop()
  folder[Symbol.dispose]()
})

function recipe(name: string): string {
  return readFileSync(join(ROOT, 'recipes', name), 'utf8')
}

test('docs/recipes.md links to each recipe', () => {
  const page = readFileSync(join(ROOT, 'docs/recipes.md'), 'utf8')
  const files = globSync('recipes/*/*', { cwd: ROOT })
  assert.ok(files.length >= 10)
  assert.deepEqual(
    files.filter((file) => !page.includes(`(../${file})`)),
    [],
  )
})

test('systemd takes the unit', { skip: without('systemd-analyze') }, () => {
  const unit = recipe('systemd/coffer@.service')
  assert.match(unit, /^ExecStart=\/usr\/bin\/coffer start --config /m)
  const file = folder.file('coffer@n1.service')
  // The command must be there for systemd-analyze.
  writeFileSync(file, unit.replaceAll('/usr/bin/coffer ', `${process.execPath} `))
  const verified = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' })
  assert.deepEqual([verified.stderr, verified.status], ['', 0])
})

test('the container file copies what there is, and starts what the package starts', () => {
  const lines = recipe('container/Containerfile').split('\n')
  const copied = lines.flatMap((line) => /^COPY (?!--from)(.+) \S+$/.exec(line)?.[1].split(' ') ?? [])
  assert.ok(copied.includes('package-lock.json'))
  for (const path of copied) assert.ok(existsSync(join(ROOT, path)), path)
  // The member is started by a shell (src/node/member.ts).
  assert.ok(lines.some((line) => /^COPY --from=build \S+ \/bin\/sh$/.test(line)))
  const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const entry = lines.find((line) => line.startsWith('ENTRYPOINT')) ?? ''
  assert.equal(JSON.parse(entry.slice('ENTRYPOINT'.length)).at(-1), `/opt/coffer/${bin.coffer}`)
})

test('hadolint takes the container file', { skip: without('hadolint') }, () => {
  const linted = spawnSync('hadolint', [join(ROOT, 'recipes/container/Containerfile')], { encoding: 'utf8' })
  assert.deepEqual([linted.stdout, linted.status], ['', 0])
})

test('the configurations for Kubernetes are three nodes of one cluster; probes are routes', () => {
  const documents = parseAllDocuments(recipe('kubernetes/coffer.yaml'), { version: '1.1' })
  const objects = documents.map((document) => {
    assert.deepEqual(document.errors, [])
    return document.toJS()
  })
  const of = (kind: string) => objects.find((object) => object.kind === kind)
  const configs = Object.entries<string>(of('ConfigMap').data).map(([name, text]) =>
    parseConfig(text, `/var/lib/coffer/${name}`),
  )
  assert.deepEqual(
    configs.map(({ node }) => node),
    ['n1', 'n2', 'n3'],
  )
  for (const { ledger } of configs) assert.deepEqual(ledger.endpoints, configs[0].ledger.endpoints)
  const { spec } = of('StatefulSet').spec.template
  const [{ livenessProbe, readinessProbe }] = spec.containers
  for (const { httpGet } of [livenessProbe, readinessProbe]) {
    assert.ok(ROUTES.some(({ path, open }) => path === httpGet.path && open))
  }
  const modes = spec.volumes.flatMap((volume: { secret?: { defaultMode: number } }) =>
    volume.secret ? [volume.secret.defaultMode] : [],
  )
  assert.deepEqual(modes, [0o440, 0o440])
})

test('the schemas of Kubernetes take the manifests', { skip: without('kubernetes-validate') }, () => {
  const file = join(ROOT, 'recipes/kubernetes/coffer.yaml')
  const validated = spawnSync('kubernetes-validate', ['--strict', file], { encoding: 'utf8' })
  assert.equal(validated.status, 0, validated.stdout + validated.stderr)
})

test('External Secrets: the address, the header and the path give the value', async () => {
  const [store, secret] = parseAllDocuments(recipe('kubernetes/external-secret.yaml')).map((each) =>
    each.toJS(),
  )
  const { webhook } = store.spec.provider
  const [{ remoteRef }] = secret.spec.data
  await vault.client.createSecret(remoteRef.key, 'swordfish')
  const fill = (text: string): string =>
    text.replace('{{ .remoteRef.key }}', remoteRef.key).replace('{{ .auth.key }}', vault.env.COFFER_KEY)
  const url = fill(webhook.url).replace('https://coffer-api', vault.node.url)
  const answer = await fetch(url, { headers: { authorization: fill(webhook.headers.Authorization) } })
  assert.equal(webhook.result.jsonPath, '$.value')
  assert.equal(((await answer.json()) as { value: string }).value, 'swordfish')
})

test('compose: the check of health sees a node that is ready, and none', () => {
  const { services } = parseYaml(recipe('container/compose.yaml'))
  const [, , ...args]: string[] = services.vault.healthcheck.test
  const check = (url: string) =>
    spawnSync(
      process.execPath,
      args.map((arg) => arg.replace('http://127.0.0.1:8200', url)),
    ).status
  assert.deepEqual([check(vault.node.url), check('http://127.0.0.1:9')], [0, 1])
  assert.deepEqual(services.app.command.slice(0, 5), ['npx', 'coffer', 'env', 'run', '/app/.env'])
})

test('alarms speak of metrics that there are', async () => {
  const metrics = await (await fetch(new URL('/metrics', vault.node.url))).text()
  const names = new Set(recipe('prometheus/rules.yaml').match(/\bcoffer_[a-z_]+/g))
  assert.ok(names.size >= 8)
  // Those of the ledger of three nodes are absent from an embedded one.
  const ofThree = ['coffer_ledger_used_ratio']
  for (const name of names) assert.ok(metrics.includes(`\n${name}`) || ofThree.includes(name), name)
})

test('promtool takes the alarms, and they ring', { skip: without('promtool') }, () => {
  const [program, cwd] = [programPath('promtool') ?? '', join(ROOT, 'recipes/prometheus')]
  execFileSync(program, ['check', 'rules', 'rules.yaml'], { cwd })
  execFileSync(program, ['test', 'rules', 'rules-test.yaml'], { cwd })
})

test('rsyslog ships each event once, over a rotation', { skip: without('rsyslogd') }, async () => {
  const [events, shipped] = [folder.file('events.ndjson'), folder.file('shipped')]
  const config = recipe('logs/rsyslog.conf')
    .replace('/var/lib/coffer/vault/n1/events.ndjson', events)
    .replace('/var/log/coffer-events.ndjson', shipped)
    .replace('/var/spool/rsyslog', folder.path)
  const file = folder.file('rsyslog.conf')
  writeFileSync(file, config)
  writeFileSync(events, '')
  const args = ['-n', '-f', file, '-i', folder.file('rsyslog.pid')]
  const child = spawn(programPath('rsyslogd') ?? '', args, { stdio: 'ignore' })
  const lines = (): string[] => (existsSync(shipped) ? readFileSync(shipped, 'utf8').split('\n') : [])
  const line = (seq: number): string => `{"seq":${seq},"event":"tokens.issued","reason":"a %41 \\" ü"}`
  try {
    appendFileSync(events, `${line(1)}\n${line(2)}\n`)
    await until('two lines', () => lines().length === 3)
    renameSync(events, folder.file('events-1.ndjson'))
    writeFileSync(events, `${line(3)}\n`)
    await until('a line of the new file', () => lines().length === 4)
    assert.deepEqual(lines(), [line(1), line(2), line(3), ''])
  } finally {
    child.kill('SIGKILL')
    await until(`the end of ${basename(child.spawnfile)}`, () => child.signalCode !== null)
  }
})
