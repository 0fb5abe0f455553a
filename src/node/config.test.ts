import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Config, ConfigError, DEFAULT_LIMITS, parseConfig, readConfig } from './config.ts'

const A = 'a'.repeat(64)
const B = '0b'.repeat(32)

/** A right file, with `lines` put over its own members of the same name. */
function source(...lines: string[]): string {
  const own = [
    'node: n1',
    'listen: 127.0.0.1:8200',
    'data: ./n1',
    'keyring: ../keyring.json',
    `owners: [{ id: clinic-a, keys: [{ id: k1, sha256: ${A} }] }]`,
    'ledger: { kind: embedded }',
  ]
  const nameOf = (line: string) => line.slice(0, line.indexOf(':'))
  const names = new Set(lines.map(nameOf))
  return [...own.filter((line) => !names.has(nameOf(line))), ...lines].join('\n')
}

function parse(...lines: string[]): Config {
  return parseConfig(source(...lines), '/etc/coffer/n1.yaml')
}

function errorOf(text: string): ConfigError {
  try {
    parseConfig(text, '/etc/coffer/n1.yaml')
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
  return assert.fail(`accepted: ${text}`)
}

function pathsOf(...lines: string[]): string[] {
  return errorOf(source(...lines)).faults.map((fault) => fault.path)
}

test('the least file: defaults, and paths against its folder', () => {
  assert.deepEqual(parse(), {
    file: '/etc/coffer/n1.yaml',
    node: 'n1',
    listen: { host: '127.0.0.1', port: 8200 },
    insecure: false,
    data: '/etc/coffer/n1',
    keyring: '/etc/keyring.json',
    owners: [{ id: 'clinic-a', keys: [{ id: 'k1', sha256: A }], removed: [] }],
    fields: [],
    limits: DEFAULT_LIMITS,
    ledger: { kind: 'embedded', endpoints: [] },
  })
})

test('every member', () => {
  const config = parse(
    'listen: 0.0.0.0:8443',
    'tls: { cert: tls/cert.pem, key: /keys/key.pem }',
    'owners:',
    `  - { id: a, keys: [{ id: k1, sha256: ${A} }, { id: k2, sha256: ${B} }] }`,
    '  - { id: b, keys: [] }',
    '  - { id: c }',
    'tokenize: { fields: [patient.ssn, "contacts[].phone", "a[][]", "first name"] }',
    'limits: { body_bytes: 1048576, event_files_kept: 2, keep_alive_seconds: 5 }',
    'ledger:',
    '  kind: etcd',
    '  endpoints: [https://127.0.0.1:8201, "http://[::1]:8211/"]',
    '  tls: { ca: ca.pem, cert: c.pem, key: k.pem }',
    '  member:',
    '    client: https://127.0.0.1:8201',
    '    peer: https://127.0.0.1:8202/',
    '    cluster: { n1: https://127.0.0.1:8202, n2: https://127.0.0.1:8212 }',
    '    token: coffer-0123',
    '    etcd: bin/etcd',
  )
  assert.deepEqual(config.tls, { cert: '/etc/coffer/tls/cert.pem', key: '/keys/key.pem' })
  assert.deepEqual(
    config.owners.map((owner) => owner.keys.map((key) => key.id)),
    [['k1', 'k2'], [], []],
  )
  assert.deepEqual(config.fields, ['patient.ssn', 'contacts[].phone', 'a[][]', 'first name'])
  const limits = { body_bytes: 1048576, event_files_kept: 2, keep_alive_seconds: 5 }
  assert.deepEqual(config.limits, { ...DEFAULT_LIMITS, ...limits })
  assert.deepEqual(config.ledger, {
    kind: 'etcd',
    endpoints: ['https://127.0.0.1:8201', 'http://[::1]:8211'],
    tls: { ca: '/etc/coffer/ca.pem', cert: '/etc/coffer/c.pem', key: '/etc/coffer/k.pem' },
    member: {
      client: 'https://127.0.0.1:8201',
      peer: 'https://127.0.0.1:8202',
      cluster: { n1: 'https://127.0.0.1:8202', n2: 'https://127.0.0.1:8212' },
      token: 'coffer-0123',
      etcd: '/etc/coffer/bin/etcd',
    },
  })
})

test('five different mistakes: all five are told, each with its path', () => {
  const error = errorOf(
    [
      'node: N1',
      'listen: 8200',
      'data: ./n1',
      'data: ./n2',
      'keyring: keyring.json',
      `owners: [{ id: a, keys: [] }, { id: b, keys: [{ id: k1, sha256: ${A.toUpperCase()} }] }]`,
      'limits: { body_bites: 5 }',
      'ledger: { kind: embedded }',
    ].join('\n'),
  )
  const paths = ['data', 'listen', 'node', 'owners[1].keys[0].sha256', 'limits.body_bites']
  assert.deepEqual(error.faults.map((fault) => fault.path).sort(), paths.sort())
  const lines = error.message.split('\n')
  assert.equal(lines[0], '/etc/coffer/n1.yaml: 5 faults')
  for (const path of paths)
    assert.ok(
      lines.some((line) => line.startsWith(`  ${path}: `)),
      path,
    )
  assert.match(error.message, /listen: expected host:port, .* found a number; put it in quotes/)
  assert.doesNotMatch(error.message, /A{64}/)
})

test('what is missing is told, and nothing below it', () => {
  const { faults } = errorOf('{}')
  assert.deepEqual(faults.map((fault) => fault.path).sort(), [
    'data',
    'keyring',
    'ledger',
    'listen',
    'node',
    'owners',
  ])
  for (const fault of faults) assert.match(fault.message, /^missing; expected /)
  assert.deepEqual(
    ['', 'null', '[]', 'text', '17'].map((text) => errorOf(text).faults.map((fault) => fault.path)),
    [[''], [''], [''], [''], ['']],
  )
})

test('listen: host and port', () => {
  const good: [string, string, number][] = [
    ['127.0.0.1:0', '127.0.0.1', 0],
    ['127.3.2.1:65535', '127.3.2.1', 65535],
    ['localhost:80', 'localhost', 80],
    ['LOCALHOST:80', 'LOCALHOST', 80],
    ['"[::1]:8200"', '::1', 8200],
    ['"[0:0::1]:8200"', '0:0::1', 8200],
  ]
  for (const [text, host, port] of good) assert.deepEqual(parse(`listen: ${text}`).listen, { host, port })
  // biome-ignore format: a table
  const bad = [
    '8200', '":8200"', 'localhost', '"localhost:"', 'localhost:65536', 'localhost:080', 'localhost:-1',
    '"::1:8200"', '"[::1]"', '"[127.0.0.1]:1"', '"[::g]:1"', '127.1:1', '256.0.0.1:1', '127.0.0.1.:1',
    'a_-:1', '"http://localhost:1"', '"local host:1"', '"*:1"', '""', 'null', '[]', '{}', 'true',
  ]
  for (const text of bad) assert.deepEqual(pathsOf(`listen: ${text}`), ['listen'], text)
})

test('beyond loopback only with tls or insecure', () => {
  const beyond = [
    '0.0.0.0:1',
    '"[::]:1"',
    '10.0.0.1:1',
    'vault.example:1',
    '"[::ffff:10.0.0.1]:1"',
    'localhost.example:1',
  ]
  for (const text of beyond) {
    const listen = `listen: ${text}`
    assert.deepEqual(pathsOf(listen), ['listen'], text)
    assert.deepEqual(pathsOf(listen, 'insecure: false'), ['listen'], text)
    assert.equal(parse(listen, 'insecure: true').insecure, true)
    assert.ok(parse(listen, 'tls: { cert: c, key: k }').tls !== undefined)
  }
  assert.deepEqual(pathsOf('insecure: "true"'), ['insecure'])
  assert.deepEqual(pathsOf('tls: { cert: c }'), ['tls.key'])
  assert.deepEqual(pathsOf('tls: { cert: c, key: "", ca: x }'), ['tls.ca', 'tls.key'])
  assert.deepEqual(pathsOf('tls: yes'), ['tls'])
})

test('owners and keys: ids, hashes, nothing twice', () => {
  const owners = (text: string) => pathsOf(`owners: ${text}`)
  assert.deepEqual(owners('[]'), ['owners'])
  assert.deepEqual(owners('{}'), ['owners'])
  assert.deepEqual(owners('[a]'), ['owners[0]'])
  assert.deepEqual(owners('[{}]'), ['owners[0].id'])
  assert.deepEqual(owners('[{ id: a }, { id: b }, { id: a }]'), ['owners[2].id'])
  for (const id of ['""', 'A', '-a', '.a', 'a/b', '"a b"', 'ä', 'a'.repeat(65), '17', 'true', 'null']) {
    assert.deepEqual(owners(`[{ id: ${id} }]`), ['owners[0].id'], id)
    assert.deepEqual(owners(`[{ id: a, keys: [{ id: ${id}, sha256: ${A} }] }]`), ['owners[0].keys[0].id'], id)
  }
  assert.equal(parse(`owners: [{ id: ${'a'.repeat(64)} }]`).owners.length, 1)
  assert.deepEqual(owners('[{ id: a, keys: null }]'), ['owners[0].keys'])
  const hash = 'owners[0].keys[0].sha256'
  for (const text of [A.slice(1), `${A}a`, 'A'.repeat(64), '1'.repeat(64), 'g'.repeat(64), 'null']) {
    assert.deepEqual(owners(`[{ id: a, keys: [{ id: k, sha256: ${text} }] }]`), [hash], text)
  }
  const key = (id: string, sha256: string) => `{ id: ${id}, sha256: ${sha256} }`
  assert.deepEqual(owners(`[{ id: a, keys: [${key('k', A)}, ${key('k', B)}] }]`), ['owners[0].keys[1].id'])
  // The same key id in two owners is fine; the same hash is not, in one owner or in two.
  assert.deepEqual(owners(`[{ id: a, keys: [${key('k', A)}, ${key('l', A)}] }]`), [
    'owners[0].keys[1].sha256',
  ])
  const two = `[{ id: a, keys: [${key('k', A)}] }, { id: b, keys: [${key('k', A)}] }]`
  assert.deepEqual(owners(two), ['owners[1].keys[0].sha256'])
  assert.match(errorOf(source(`owners: ${two}`)).message, /the same as owners\[0\]\.keys\[0\]\.sha256;/)
})

test('a removed key stays with its instant, and its id is not given again', () => {
  const at = '2026-11-26T22:13:50.123Z'
  const owners = (keys: string) => `owners: [{ id: a, keys: [${keys}] }]`
  assert.deepEqual(parse(owners(`{ id: k1, removed: ${at} }, { id: k2, sha256: ${A} }`)).owners, [
    { id: 'a', keys: [{ id: 'k2', sha256: A }], removed: [{ id: 'k1', removed: at }] },
  ])
  for (const time of ['2026-11-26', 'true', '2026-11-26T22:13:50', '2026-02-30T00:00:00Z', 'null'])
    assert.deepEqual(pathsOf(owners(`{ id: k1, removed: ${time} }`)), ['owners[0].keys[0].removed'], time)
  assert.deepEqual(pathsOf(owners(`{ id: k1, removed: ${at}, sha256: ${A} }`)), ['owners[0].keys[0].sha256'])
  assert.deepEqual(pathsOf(owners(`{ id: k1, removed: ${at} }, { id: k1, sha256: ${A} }`)), [
    'owners[0].keys[1].id',
  ])
})

test('fields: their syntax, none twice, none within another', () => {
  const fields = (...paths: string[]) => pathsOf(`tokenize: { fields: ${JSON.stringify(paths)} }`)
  const at = (i: number) => `tokenize.fields[${i}]`
  const bad = [
    '',
    '.',
    '.a',
    'a.',
    'a..b',
    '[]',
    '[].a',
    'a.[]',
    'a[',
    'a]',
    'a[0]',
    'a[]b',
    'a[ ]',
    ' a',
    'a. b',
    'a\n',
    '\ud800',
  ]
  for (const path of [...bad, 'a'.repeat(513)]) assert.deepEqual(fields(path), [at(0)], path)
  assert.deepEqual(fields('a', 'b', 'a'), [at(2)])
  assert.deepEqual(fields('patient', 'patient.ssn'), [at(1)])
  assert.deepEqual(fields('patient.ssn', 'patient'), [at(0)])
  assert.deepEqual(fields('a[]', 'a[][]', 'a[].b'), [at(1), at(2)])
  assert.deepEqual(fields('a', 'a[].b.c'), [at(1)])
  const apart = ['a.b', 'a[].b', 'ab', 'a.bc', '__proto__', 'constructor.x']
  assert.deepEqual(parse(`tokenize: { fields: ${JSON.stringify(apart)} }`).fields, apart)
  assert.deepEqual(pathsOf('tokenize: []'), ['tokenize'])
  assert.deepEqual(pathsOf('tokenize: { fields: a }'), ['tokenize.fields'])
  assert.deepEqual(pathsOf('tokenize: { fields: [17], x: 1 }'), ['tokenize.x', at(0)])
  assert.deepEqual(parse('tokenize: {}').fields, [])
})

test('limits: known names, positive integers, not beyond reason', () => {
  for (const text of ['0', '-1', '1.5', '.inf', '.nan', '"5"', '16 MiB', 'null', '[]', '268435457']) {
    assert.deepEqual(pathsOf(`limits: { body_bytes: ${text} }`), ['limits.body_bytes'], text)
  }
  for (const name of Object.keys(DEFAULT_LIMITS)) {
    assert.deepEqual(pathsOf(`limits: { ${name}: 1e15 }`), [`limits.${name}`])
  }
  const largest = { body_bytes: 268435456, answer_bytes: 268435456, bodies_in_work_bytes: 1073741824 }
  const { limits } = parse(`limits: ${JSON.stringify(largest)}`)
  assert.deepEqual(limits, { ...DEFAULT_LIMITS, ...largest })
  assert.deepEqual(pathsOf('limits: { body_bytes: none, bodies_in_work_bytes: 1 }'), ['limits.body_bytes'])
  assert.deepEqual(pathsOf('limits: { toString: 1 }'), ['limits.toString'])
  assert.deepEqual(pathsOf('limits: null'), ['limits'])
})

test('half of the bytes in work holds a body and an answer: else such a request is never answered', () => {
  const fits = 'body_bytes: 2000, answer_bytes: 3000, bodies_in_work_bytes: 10000'
  assert.equal(parse(`limits: { ${fits} }`).limits.bodies_in_work_bytes, 10_000)
  for (const limits of [
    'body_bytes: 2000, answer_bytes: 3000, bodies_in_work_bytes: 9999',
    'body_bytes: 2001, answer_bytes: 3000, bodies_in_work_bytes: 10000',
    'bodies_in_work_bytes: 167772159', // twice the default body and answer, less one
    'body_bytes: 268435456',
    'answer_bytes: 268435456',
  ]) {
    const { faults } = errorOf(source(`limits: { ${limits} }`))
    assert.deepEqual(
      faults.map(({ path }) => path),
      ['limits.bodies_in_work_bytes'],
      limits,
    )
    assert.match(faults[0].message, /set at least \d+, or lower the other two$/)
  }
  assert.equal(parse('limits: { bodies_in_work_bytes: 167772160 }').limits.body_bytes, 16_777_216)
})

test('the ledger: what belongs to its kind', () => {
  const ledger = (text: string) => pathsOf(`ledger: ${text}`)
  assert.deepEqual(ledger('embedded'), ['ledger'])
  assert.deepEqual(ledger('{}'), ['ledger.kind'])
  assert.deepEqual(ledger('{ kind: redis, endpoints: [] }'), ['ledger.kind'])
  assert.deepEqual(ledger('{ kind: embedded, endpoints: [], member: {} }'), [
    'ledger.endpoints',
    'ledger.member',
  ])
  assert.deepEqual(ledger('{ kind: etcd }'), ['ledger.endpoints'])
  assert.deepEqual(ledger('{ kind: etcd, endpoints: [] }'), ['ledger.endpoints'])
  const url = 'http://127.0.0.1:8201'
  for (const text of [
    'a:1',
    'ftp://a:1',
    'https://',
    `${url}/v3`,
    `${url}?a`,
    `${url}#`,
    'https://u:p@a:1',
    '17',
  ]) {
    assert.deepEqual(
      ledger(`{ kind: etcd, endpoints: ["${url}", "${text}"] }`),
      ['ledger.endpoints[1]'],
      text,
    )
  }
  assert.deepEqual(ledger(`{ kind: etcd, endpoints: [${url}, ${url}/] }`), ['ledger.endpoints[1]'])
  const tls = 'tls: { ca: a, cert: b }, member: []'
  assert.deepEqual(ledger(`{ kind: etcd, endpoints: [${url}], ${tls} }`), ['ledger.tls.key', 'ledger.member'])
  const open = (text: string, ...more: string[]) => pathsOf(`ledger: { kind: etcd, ${text} }`, ...more)
  assert.deepEqual(open('endpoints: [https://127.0.0.1:8201]'), ['ledger.endpoints'])
  assert.deepEqual(open('endpoints: [http://10.0.0.1:8201]'), ['ledger.endpoints'])
  parse('ledger: { kind: etcd, endpoints: [http://10.0.0.1:8201] }', 'insecure: true')
  const member = (text: string) => ledger(`{ kind: etcd, endpoints: [${url}], member: { ${text} } }`)
  const peer = 'peer: http://127.0.0.1:8202'
  const cluster = 'cluster: { n1: http://127.0.0.1:8202 }, token: 0123-4567'
  parse(`ledger: { kind: etcd, endpoints: [${url}], member: { client: ${url}, ${peer}, ${cluster} } }`)
  assert.deepEqual(member(`client: ${url}1, ${peer}, ${cluster}`), ['ledger.member.client'])
  assert.deepEqual(member(`client: ${url}, ${peer}, cluster: { n2: ${url} }, token: short`), [
    'ledger.member.cluster',
    'ledger.member.token',
  ])
  assert.deepEqual(member(`client: ${url}, ${peer}, cluster: { n1: https://a/b }, token: 0123-4567`), [
    'ledger.member.cluster.n1',
    'ledger.member.cluster',
  ])
})

test('a member is reached by certificates only, by the others and by all: else loopback, or insecure', () => {
  const faults = (peer: string, other: string, ...more: string[]): string[] => {
    const cluster = `cluster: { n1: "${peer}", n2: "${other}" }, token: 0123-4567`
    const member = `member: { client: "http://localhost:1", peer: "${peer}", ${cluster} }`
    return pathsOf(`ledger: { kind: etcd, endpoints: ["http://localhost:1"], ${member} }`, ...more)
  }
  const own = ['ledger.member.peer']
  const others = ['ledger.member.cluster.n2']
  assert.deepEqual(faults('http://10.0.0.5:2', 'http://127.0.0.1:3'), own)
  assert.deepEqual(faults('http://n1:2', 'http://n2:3'), [...own, ...others])
  assert.deepEqual(faults('https://10.0.0.5:2', 'http://[::1]:3'), own) // https without certificates
  assert.deepEqual(faults('http://127.0.0.1:2', 'http://10.0.0.6:3'), others)
  const secured = (peer: string): string =>
    `ledger: { kind: etcd, endpoints: ["https://n1:1"], tls: { ca: a, cert: b, key: c }, member: { ` +
    `client: "https://n1:1", peer: "${peer}", cluster: { n1: "${peer}" }, token: 0123-4567 } }`
  parse(secured('https://n1:2'))
  assert.deepEqual(pathsOf(secured('http://n1:2')), own) // etcd asks for no certificates there
  assert.equal(parse(secured('http://n1:2'), 'insecure: true').ledger.member?.peer, 'http://n1:2')
  assert.equal(parse(secured('http://localhost:2')).ledger.member?.peer, 'http://localhost:2')
})

test('YAML: a member twice, aliases, anchors, tags, several documents', () => {
  assert.deepEqual(pathsOf('limits: { values: 5, values: 6 }'), ['limits.values'])
  assert.deepEqual(pathsOf('tls: &t { cert: c, key: k }', 'limits: *t'), ['tls', 'limits'])
  assert.deepEqual(pathsOf('"<<": { node: n2 }'), ['(member 7)'])
  assert.deepEqual(pathsOf('__proto__: { node: n2 }'), ['__proto__'])
  for (const line of [
    'tls: !!binary aGk=',
    'tls: !x {}',
    '---\nnode: n2',
    '? [a]\n: 1',
    'tls: "a',
    'tls: [',
    '\ttls: 1',
  ]) {
    const { faults } = errorOf(`${source()}\n${line}`)
    assert.equal(faults[0].path, '')
    assert.match(faults[0].message, /^line \d+, column \d+: /, line)
  }
  assert.match(errorOf(source('listen: [::1]:8200')).message, /line 6, column 14: .*in quotes/)
  // YAML 1.1 would read yes as true.
  const { faults } = errorOf(`%YAML 1.1\n---\n${source('insecure: yes')}`)
  assert.deepEqual(
    faults.map((fault) => fault.path),
    ['insecure'],
  )
  assert.deepEqual(errorOf('x'.repeat(5_000_000)).faults.length, 1)
  assert.ok(errorOf('['.repeat(5_000)).faults.length <= 10)
  assert.ok(pathsOf(`tls: ${'['.repeat(100)}${']'.repeat(100)}`)[0].startsWith('tls[0][0]'))
})

test('billions of laughs end at the first alias', () => {
  const laughs = Array.from({ length: 30 }, (_, i) => `l${i + 1}: &l${i + 1} [*l${i}, *l${i}, *l${i}]`)
  const { faults } = errorOf(['l0: &l0 ha', ...laughs].join('\n'))
  assert.ok(faults.some((fault) => fault.message.startsWith('anchors')))
})

test('no message repeats what stood in the file', () => {
  const secret = 'cof_5ecre75ecre75ecre75ecre75ecre7'
  const texts = [
    source(`node: ${secret.toUpperCase()}/`),
    source(`${secret}: 1`),
    source(`owners: [{ id: a, keys: [{ id: k, sha256: ${secret} }] }]`),
    source(`owners: [{ id: a, keys: [{ ${A}: k }, { id: ${secret}/, sha256: ${A}0 }] }]`),
    source(`ledger: { kind: etcd, endpoints: ["https://u:${secret}@h"] }`),
    source(`ledger: { kind: ${secret} }`),
    source(`listen: "${secret}"`, `data: *${secret}`, `keyring: &${secret} x`, `tls: !${secret} x`),
    source(`tls: "${secret}`),
    source(`tls: "\\q${secret}"`),
    source(`tls: [${secret}: : ]]`),
    `%${secret} x\n---\n${source()}`,
  ]
  for (const text of texts) {
    const { message } = errorOf(text)
    assert.ok(!message.toLowerCase().includes('5ecre7') && !message.includes('aaaa'), message)
  }
})

test('reading: a file that is missing, no file, not text', () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-config-'))
  try {
    const file = join(dir, 'n1.yaml')
    assert.throws(() => readConfig(file), { name: 'ConfigError', message: /no such file; `coffer init`/ })
    assert.throws(() => readConfig(dir), { name: 'ConfigError', message: /cannot be read \(EISDIR\)/ })
    writeFileSync(file, Uint8Array.of(0x6e, 0xff, 0xfe))
    assert.throws(() => readConfig(file), { name: 'ConfigError', message: /is not UTF-8/ })
    writeFileSync(file, `\ufeff${source()}`)
    for (const mode of [0o620, 0o602, 0o666]) {
      chmodSync(file, mode)
      const message = new RegExp(`written by others \\(mode ${mode.toString(8)}\\): chmod go-w .*n1\\.yaml`)
      assert.throws(() => readConfig(file), { name: 'ConfigError', message })
    }
    chmodSync(file, 0o644)
    const config = readConfig(file)
    assert.equal(config.file, file)
    assert.equal(config.data, join(dir, 'n1'))
  } finally {
    rmSync(dir, { recursive: true })
  }
})
