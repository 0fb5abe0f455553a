import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Config, parseConfig } from './config.ts'
import { memberFlags } from './member-flags.ts'

/** The configuration of a node whose member has these addresses. */
function configWith(client: string, peer: string, tls = ''): Config {
  return parseConfig(
    `
node: n1
listen: 127.0.0.1:8200
data: ./n1
keyring: ./keyring.json
insecure: true
owners: [{ id: a }]
ledger:
  kind: etcd
  endpoints: ["${client}"]
  ${tls}
  member:
    client: "${client}"
    peer: "${peer}"
    cluster: { n1: "${peer}", n2: "http://n2:1" }
    token: a-cluster
`,
    '/vault/n1.yaml',
  )
}

function flagsOf(config: Config, version = '3.7.3', state: 'new' | 'existing' = 'new'): Map<string, string> {
  const flags = memberFlags(config, version, state).map((flag) => /^--([a-z0-9-]+)=(.*)$/.exec(flag))
  return new Map(flags.map((match) => [match?.[1] ?? '', match?.[2] ?? '']))
}

test('a member has the name, the directory and the cluster of its node', () => {
  const flags = flagsOf(configWith('http://10.0.0.1:8201', 'http://10.0.0.1:8202'), '3.7.3', 'existing')
  const expected = {
    name: 'n1',
    'data-dir': '/vault/n1/etcd',
    'initial-cluster': 'n1=http://10.0.0.1:8202,n2=http://n2:1',
    'initial-cluster-token': 'a-cluster',
    'initial-cluster-state': 'existing',
    'log-outputs': '/vault/run/n1.etcd.log',
  }
  for (const [name, value] of Object.entries(expected)) assert.equal(flags.get(name), value, name)
})

test('a member listens on its address; on all addresses where others use a name', () => {
  for (const [host, listens] of [
    ['10.0.0.1', '10.0.0.1'],
    ['[fd00::1]', '[fd00::1]'],
    ['n1.internal', '0.0.0.0'],
    ['localhost', 'localhost'], // http is allowed there: nobody else may reach the member
  ]) {
    const flags = flagsOf(configWith(`http://${host}:8201`, `http://${host}:8202`))
    assert.equal(flags.get('listen-client-urls'), `http://${listens}:8201`)
    assert.equal(flags.get('listen-peer-urls'), `http://${listens}:8202`)
    assert.equal(flags.get('advertise-client-urls'), `http://${host}:8201`)
    assert.equal(flags.get('initial-advertise-peer-urls'), `http://${host}:8202`)
  }
})

test('certificates of `ledger.tls` for clients and for peers, who must show certificates, too', () => {
  const tls = 'tls: { ca: tls/ca.crt, cert: tls/n1.crt, key: tls/n1.key }'
  const flags = flagsOf(configWith('https://10.0.0.1:8201', 'https://10.0.0.1:8202', tls))
  for (const prefix of ['', 'peer-']) {
    assert.equal(flags.get(`${prefix}trusted-ca-file`), '/vault/tls/ca.crt')
    assert.equal(flags.get(`${prefix}cert-file`), '/vault/tls/n1.crt')
    assert.equal(flags.get(`${prefix}key-file`), '/vault/tls/n1.key')
    assert.equal(flags.get(`${prefix}client-cert-auth`), 'true')
  }
  const open = flagsOf(configWith('http://10.0.0.1:8201', 'http://10.0.0.1:8202'))
  assert.equal(open.get('client-cert-auth'), undefined)
})

test('corruption checks are on, under the names of each release', () => {
  const config = configWith('http://10.0.0.1:8201', 'http://10.0.0.1:8202')
  assert.equal(flagsOf(config, '3.5.33').get('experimental-initial-corrupt-check'), 'true')
  assert.equal(flagsOf(config, '3.5.33').get('feature-gates'), undefined)
  for (const version of ['3.6.14', '3.7.3']) {
    const flags = flagsOf(config, version)
    assert.equal(flags.get('feature-gates'), 'InitialCorruptCheck=true,CompactHashCheck=true')
    assert.deepEqual(
      [...flags.keys()].filter((name) => name.startsWith('experimental')),
      [],
      version,
    )
  }
})
