import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import type { LedgerSettings } from '../../src/ledger/drivers.ts'
import { readConfig } from '../../src/node/config.ts'
import { coffer, Folder, fine, refused } from './cli.ts'

const NODES = ['n1', 'n2', 'n3']
const SERVER_AND_CLIENT = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']
const DAY_MS = 24 * 60 * 60 * 1000

function certificate(...path: string[]): X509Certificate {
  return new X509Certificate(readFileSync(path.join('/')))
}

/** A certificate for both sides of an etcd member's connections, signed by the authority, for the key. */
function checkCertificate(dir: string, node: string, ca: X509Certificate): X509Certificate {
  const cert = certificate(dir, 'tls', `${node}.crt`)
  assert.ok(cert.checkIssued(ca) && cert.verify(ca.publicKey), `${node}: of the authority`)
  assert.ok(
    cert.checkPrivateKey(createPrivateKey(readFileSync(`${dir}/tls/${node}.key`))),
    `${node}: its key`,
  )
  assert.equal(cert.ca, false)
  assert.deepEqual([...cert.keyUsage].sort(), SERVER_AND_CLIENT) // in Node: the extended key usage
  const names = cert.subjectAltName?.split(', ')
  assert.deepEqual(names, [
    'IP Address:127.0.0.1',
    'IP Address:0:0:0:0:0:0:0:1',
    'DNS:localhost',
    `DNS:${node}`,
  ])
  assert.equal(cert.subject, `CN=${node}`)
  const days = (Date.parse(cert.validTo) - Date.now()) / DAY_MS
  assert.ok(days > 729 && days < 732, `${days} days`)
  assert.ok(Date.parse(cert.validFrom) < Date.now() - DAY_MS / 2, 'for clocks that are behind, too')
  return cert
}

function etcdOf(config: string): LedgerSettings {
  const { ledger } = readConfig(config)
  assert.equal(ledger.kind, 'etcd')
  return ledger
}

test('init --nodes 3: one vault, a configuration for each node, certificates of one authority', async () => {
  using folder = new Folder()
  const dir = folder.file('v')
  const args = ['--owner', 'a', '--owner', 'b', '--field', 'p.q', '--port', '9000']
  const made = JSON.parse(await fine(['init', dir, '--nodes', '3', '--json', ...args]))
  assert.deepEqual(Object.keys(made), ['owners', 'nodes'])
  assert.deepEqual(Object.keys(made.owners), ['a', 'b'])
  assert.deepEqual(
    made.nodes,
    [9000, 9010, 9020].map((port) => `http://127.0.0.1:${port}`),
  )

  const configs = NODES.map((node) => readConfig(`${dir}/${node}.yaml`))
  const cluster = { n1: 'https://127.0.0.1:9002', n2: 'https://127.0.0.1:9012', n3: 'https://127.0.0.1:9022' }
  const { token } = etcdOf(`${dir}/n1.yaml`).member ?? assert.fail('it has a member')
  assert.match(token, /^coffer-[0-9a-f]{32}$/)
  for (const [i, config] of configs.entries()) {
    const node = NODES[i]
    assert.deepEqual([config.node, config.listen.port, config.data], [node, 9000 + 10 * i, `${dir}/${node}`])
    assert.equal(config.keyring, `${dir}/keyring.json`)
    assert.deepEqual([config.owners, config.fields], [configs[0].owners, ['p.q']])
    assert.deepEqual(config.ledger, {
      kind: 'etcd',
      endpoints: ['https://127.0.0.1:9001', 'https://127.0.0.1:9011', 'https://127.0.0.1:9021'],
      tls: { ca: `${dir}/tls/ca.crt`, cert: `${dir}/tls/${node}.crt`, key: `${dir}/tls/${node}.key` },
      member: {
        client: `https://127.0.0.1:${9001 + 10 * i}`,
        peer: `https://127.0.0.1:${9002 + 10 * i}`,
        cluster,
        token,
      },
    })
  }

  const ca = certificate(dir, 'tls', 'ca.crt')
  assert.ok(ca.ca && ca.checkIssued(ca) && ca.verify(ca.publicKey))
  assert.match(ca.subject, /^CN=Coffer CA [0-9a-f]{16}$/)
  assert.ok(ca.checkPrivateKey(createPrivateKey(readFileSync(`${dir}/tls/ca.key`))))
  const serials = NODES.map((node) => checkCertificate(dir, node, ca).serialNumber)
  assert.equal(new Set([...serials, ca.serialNumber]).size, 4)
  const files = globSync('**', { cwd: dir }).filter((name) => statSync(`${dir}/${name}`).isFile())
  assert.equal(files.length, 12, files.join(' '))
  for (const name of files) assert.equal(statSync(`${dir}/${name}`).mode & 0o777, 0o600, name)
})

test('init --nodes 3: for a person, what comes next; what cannot be leaves nothing behind', async () => {
  using folder = new Folder()
  const { code, stderr } = await coffer(['init', folder.file('v'), '--nodes', '3'])
  assert.deepEqual([code, stderr.split('\n').at(-2)], [0, `Next: coffer cluster start ${folder.file('v')}`])
  const other = folder.file('w')
  const three = ['init', other, '--nodes', '3']
  assert.match(await refused(2, [...three, '--port', '0']), /--port must be a number from 1 to 65513/)
  await refused(2, [...three, '--port', '65514'])
  assert.match(await refused(2, [...three, '--owner', 'A']), /--owner no\. 1:/)
  assert.ok(!existsSync(other))
  await fine([...three, '--port', '65513', '--json'])
  mkdirSync(folder.file('x'))
  writeFileSync(folder.file('x', 'tls'), 'mine')
  assert.match(await refused(1, ['init', folder.file('x'), '--nodes', '3']), /is not empty/)
  assert.equal(readFileSync(folder.file('x', 'tls'), 'utf8'), 'mine')
})

test('init --renew: new certificates of the same authority, for every node that is there', async () => {
  using folder = new Folder()
  const dir = folder.file('v')
  await fine(['init', dir, '--nodes', '3', '--json'])
  const read = (pattern: string): string[] =>
    globSync(pattern, { cwd: dir })
      .sort()
      .map((name) => readFileSync(`${dir}/${name}`, 'utf8'))
  const before = { kept: read('{*.json,*.yaml,tls/ca.*}'), made: read('tls/n*') }
  assert.equal(await fine(['init', dir, '--renew', '--json']), '{"renewed":["n1","n2","n3"]}')
  assert.deepEqual(read('{*.json,*.yaml,tls/ca.*}'), before.kept)
  const after = read('tls/n*')
  assert.equal(after.filter((text) => !before.made.includes(text)).length, 6)
  const ca = certificate(dir, 'tls', 'ca.crt')
  for (const node of NODES) {
    checkCertificate(dir, node, ca)
    assert.equal(statSync(`${dir}/tls/${node}.key`).mode & 0o777, 0o600)
  }

  // A node moved to another machine, and YAML files of other programs.
  writeFileSync(
    `${dir}/n3.yaml`,
    readFileSync(`${dir}/n3.yaml`, 'utf8').replaceAll('127.0.0.1:8222', 'vault3:8222'),
  )
  rmSync(`${dir}/n2.yaml`)
  writeFileSync(`${dir}/compose.yaml`, 'services: {}\n')
  const { code, stdout, stderr } = await coffer(['init', dir, '--renew'])
  assert.equal(code, 0, stderr)
  assert.deepEqual(
    stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(/ +/)[0]),
    ['n1', 'n3'],
  )
  assert.match(stderr, /after a restart/)
  const names = (node: string): string | undefined => certificate(dir, 'tls', `${node}.crt`).subjectAltName
  assert.match(names('n3') ?? '', /DNS:n3, DNS:vault3$/)
  assert.doesNotMatch(names('n1') ?? '', /vault3/)
})

test('init --renew: refused, with nothing changed, without the right authority', async () => {
  using folder = new Folder()
  const dir = folder.file('v')
  for (const option of [
    ['--port', '1'],
    ['--owner', 'a'],
    ['--field', 'x'],
    ['--nodes', '1'],
  ])
    assert.match(await refused(2, ['init', dir, '--renew', ...option]), new RegExp(`leave out ${option[0]}`))
  assert.match(await refused(1, ['init', dir, '--renew']), /is not a directory/)
  await fine(['init', folder.file('one'), '--json'])
  assert.match(await refused(1, ['init', folder.file('one'), '--renew']), /no node of .* has certificates/)
  await fine(['init', dir, '--nodes', '3', '--json'])
  await fine(['init', folder.file('w'), '--nodes', '3', '--json'])
  const state = (): string[] =>
    globSync('tls/n*', { cwd: dir })
      .sort()
      .map((name) => readFileSync(`${dir}/${name}`, 'utf8'))
  const before = state()
  const key = `${dir}/tls/ca.key`

  renameSync(key, folder.file('kept'))
  assert.match(await refused(1, ['init', dir, '--renew']), /tls\/ca\.key is missing: only the authority/)
  writeFileSync(key, readFileSync(folder.file('w', 'tls', 'ca.key')), { mode: 0o600 })
  assert.match(
    await refused(1, ['init', dir, '--renew']),
    /ca\.key is not the key of the certificate in .*ca\.crt/,
  )
  writeFileSync(key, 'a line of text')
  assert.match(await refused(1, ['init', dir, '--renew']), /ca\.key is not a private key in PEM/)
  renameSync(folder.file('kept'), key)
  chmodSync(key, 0o644)
  assert.match(await refused(1, ['init', dir, '--renew']), /can be read by others/)
  chmodSync(key, 0o600)
  chmodSync(`${dir}/tls/n2.key`, 0o644)
  assert.match(await refused(1, ['init', dir, '--renew']), /n2\.key can be read by others/)
  chmodSync(`${dir}/tls/n2.key`, 0o600)

  // Both files have faults, and both are reported.
  for (const node of ['n1', 'n3']) writeFileSync(`${dir}/${node}.yaml`, `node: ${node}\n`)
  const told = await refused(1, ['init', dir, '--renew'])
  for (const node of ['n1', 'n3']) assert.match(told, new RegExp(`${node}\\.yaml: \\d+ faults`))
  assert.deepEqual(state(), before)
})
