// TLS for callers, seen from outside: versions and ciphers by a scanner of our own, and a certificate that is
// replaced while the node runs.
import assert from 'node:assert/strict'
import { webcrypto } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { type ConnectionOptions, connect, getCiphers, type SecureVersion, type TLSSocket } from 'node:tls'
import { systemClock } from '../../src/clock.ts'
import { createAuthority, type Issued, issueCertificate } from '../../src/node/certificates.ts'
import { Vault } from './vault.ts'

const VERSIONS: readonly SecureVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3']
/** OpenSSL of the scanner offers old versions and ciphers only so. */
const LAX = '@SECLEVEL=0'

const dir = mkdtempSync(join(tmpdir(), 'coffer-tls-'))
const files = { cert: join(dir, 'n1.crt'), key: join(dir, 'n1.key') }
let vault: Vault

before(async () => {
  write(await elliptic())
  vault = await Vault.start({ tls: files })
})
after(async () => {
  await vault[Symbol.asyncDispose]()
  rmSync(dir, { recursive: true })
})

function write({ cert, key }: Issued): void {
  writeFileSync(files.cert, cert)
  writeFileSync(files.key, key, { mode: 0o600 })
}

async function elliptic(): Promise<Issued> {
  return issueCertificate(await createAuthority(systemClock), { node: 'n1' }, systemClock)
}

async function rsa(): Promise<Issued> {
  await import('reflect-metadata')
  const { X509CertificateGenerator } = await import('@peculiar/x509')
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: 2048,
  }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const cert = await X509CertificateGenerator.createSelfSigned({ name: 'CN=n1', keys })
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`
  return { cert: `${cert.toString('pem')}\n`, key }
}

async function shake(options: ConnectionOptions): Promise<TLSSocket> {
  const { hostname: host, port } = new URL(vault.node.url)
  const socket = connect({ host, port: Number(port), rejectUnauthorized: false, ...options })
  await once(socket, 'secureConnect')
  return socket
}

type Verdict = 'accepted' | 'refused' | 'unknown to the scanner'

async function verdict(options: ConnectionOptions): Promise<Verdict> {
  try {
    const socket = await shake(options)
    socket.destroy()
    return 'accepted'
  } catch (error) {
    // The scanner's own OpenSSL has no such cipher for the version.
    const own = /no cipher match|no ciphers available|NO_CIPHERS_AVAILABLE|NO_CIPHER_MATCH/i
    return own.test(String(error)) ? 'unknown to the scanner' : 'refused'
  }
}

/** What the node accepts of each version: every cipher of this Node is offered alone. */
async function scan(): Promise<{ readonly accepted: readonly string[]; readonly counts: string }> {
  const accepted: string[] = []
  const lines: string[] = []
  for (const version of VERSIONS) {
    const range = { minVersion: version, maxVersion: version }
    const counts: Record<Verdict, number> = { accepted: 0, refused: 0, 'unknown to the scanner': 0 }
    for (const cipher of getCiphers()) {
      const isNew = /^tls_/.test(cipher)
      if (isNew !== (version === 'TLSv1.3')) continue
      const name = cipher.toUpperCase()
      const found = await verdict({ ...range, ciphers: isNew ? name : `${name}:${LAX}` })
      counts[found]++
      if (found === 'accepted') accepted.push(`${version} ${name}`)
    }
    lines.push(
      `${version}: ${Object.entries(counts)
        .map(([what, n]) => `${n} ${what}`)
        .join(', ')}`,
    )
  }
  return { accepted, counts: lines.join('\n') }
}

/** By the kind of the certificate's key. */
function expected(kind: 'ECDSA' | 'RSA'): string[] {
  const old = ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305']
  return [
    ...old.map((suite) => `TLSv1.2 ECDHE-${kind}-${suite}`),
    'TLSv1.3 TLS_AES_128_GCM_SHA256',
    'TLSv1.3 TLS_AES_256_GCM_SHA384',
    'TLSv1.3 TLS_CHACHA20_POLY1305_SHA256',
  ]
}

async function checkScan(kind: 'ECDSA' | 'RSA', t: TestContext): Promise<void> {
  const { accepted, counts } = await scan()
  for (const line of counts.split('\n')) t.diagnostic(`${kind} ${line}`)
  assert.deepEqual([...accepted].sort(), expected(kind).sort())
}

test('a scanner finds TLS 1.3, TLS 1.2 with AEAD, and nothing else', async (t) => {
  await checkScan('ECDSA', t)
})

test('so it does with the certificate of a reload, of another kind', async (t) => {
  write(await rsa())
  vault.node.reload()
  await checkScan('RSA', t)
})

/** The certificate that a new connection gets, as its fingerprint. */
async function presented(): Promise<string> {
  const socket = await shake({})
  const { fingerprint256 } = socket.getPeerCertificate()
  socket.destroy()
  return fingerprint256
}

async function ask(socket: TLSSocket): Promise<string> {
  socket.write(`GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  let answer = ''
  for await (const chunk of socket) answer += chunk
  return answer
}

test('a certificate is re-read by a reload; open connections go on', async () => {
  const first = await presented()
  const open = await shake({})
  write(await elliptic())
  assert.equal(await presented(), first, 'nothing is read before the reload')
  vault.node.reload()
  assert.notEqual(await presented(), first)
  assert.match(await ask(open), /^HTTP\/1\.1 200 /)
  assert.match(await ask(await shake({})), /^HTTP\/1\.1 200 /)
  assert.match(vault.logs.at(-1) ?? '', /certificate re-read/)
})

test('a certificate that has ended is told at the reload, with file and day', async () => {
  const year = 365 * 24 * 60 * 60 * 1000
  const past = { ...systemClock, now: () => systemClock.now() - 11 * year }
  write(await issueCertificate(await createAuthority(past), { node: 'n1' }, past))
  vault.node.reload()
  const told = vault.logs.filter((line) => /a certificate has ended at \d{4}-\d\d-\d\dT/.test(line))
  assert.equal(told.length, 1)
  assert.ok(told[0].includes(files.cert))
})

test('a bad pair is refused and told, and the old certificate stays', async () => {
  const [good, other] = [await elliptic(), await elliptic()]
  write(good)
  vault.node.reload()
  const before = await presented()
  const faults: readonly (readonly [what: string, pair: Issued | undefined])[] = [
    ['the key of another certificate', { cert: other.cert, key: good.key }],
    ['an empty certificate', { cert: '', key: good.key }],
    ['an empty key', { cert: good.cert, key: '' }],
    ['files swapped', { cert: good.key, key: good.cert }],
    ['no PEM', { cert: 'certificate', key: 'key' }],
    ['no file', undefined],
  ]
  for (const [what, pair] of faults) {
    if (pair) write(pair)
    else rmSync(files.cert)
    const logged = vault.logs.length
    vault.node.reload()
    const told = vault.logs.slice(logged).filter((line) => /the certificate stays as read before/.test(line))
    assert.equal(told.length, 1, what)
    assert.ok(!told[0].includes('PRIVATE KEY'), what)
    assert.equal(await presented(), before, what)
    assert.match(await ask(await shake({})), /^HTTP\/1\.1 200 /, what)
  }
  write(other)
  vault.node.reload()
  assert.notEqual(await presented(), before, 'a good pair after bad ones')
})
