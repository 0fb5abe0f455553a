// Files of TLS that cannot be used are told by name, whatever OpenSSL says of them.
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { systemClock } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { createAuthority, type Issued, issueCertificate } from './certificates.ts'
import { readCertificate, readLedgerTls, readTlsPair } from './tls-files.ts'

const dir = mkdtempSync(join(tmpdir(), 'coffer-tls-files-'))
after(() => rmSync(dir, { recursive: true }))

let authority: Issued
let node: Issued

before(async () => {
  authority = await createAuthority(systemClock)
  node = await issueCertificate(authority, { node: 'n1' }, systemClock)
})

function file(name: string, text: string, mode = 0o600): string {
  const path = join(dir, name)
  rmSync(path, { force: true })
  writeFileSync(path, text, { mode })
  return path
}

function told(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof OperatorError, String(error))
    return `${error.message}: ${error.hint ?? ''}`
  }
  assert.fail('the files were taken')
}

test('a certificate, or a chain, and its key', () => {
  const key = file('key', node.key)
  assert.equal(readTlsPair({ cert: file('cert', node.cert), key }).cert.toString(), node.cert)
  readTlsPair({ cert: file('chain', node.cert + authority.cert), key })
  const ca = file('ca', authority.cert)
  assert.equal(readLedgerTls({ ca, cert: file('cert', node.cert), key }).ca.toString(), authority.cert)
})

test('wrong, swapped, encrypted, empty, missing files are told by name, without their content', () => {
  const cert = file('cert', node.cert)
  const key = file('key', node.key)
  const [, body] = node.key.split('\n')
  const pkcs8 = createPrivateKey(node.key)
  const encrypted = pkcs8.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-128-cbc', passphrase: 'x' })
  const older = pkcs8.export({ type: 'sec1', format: 'pem', cipher: 'aes-128-cbc', passphrase: 'x' })
  const cases: readonly (readonly [pair: { cert: string; key: string }, message: RegExp])[] = [
    [{ cert: key, key: cert }, /key is a private key, not a certificate: swap/],
    [{ cert, key: file('cert-as-key', node.cert) }, /cert-as-key is a certificate, not a private key: swap/],
    [{ cert, key: file('other', authority.key) }, /other is not the key of the certificate in .*cert/],
    [{ cert, key: file('locked', encrypted.toString()) }, /locked is encrypted.*openssl pkey -in .*locked/],
    [{ cert, key: file('older', older.toString()) }, /older is encrypted.*openssl pkey/],
    [{ cert: file('no-cert', ''), key }, /no-cert is empty/],
    [{ cert, key: file('no-key', '\n') }, /no-key is empty/],
    [{ cert: file('junk', 'junk'), key }, /junk is not a certificate in PEM/],
    [{ cert, key: file('torn', node.key.slice(0, 60)) }, /torn is not a private key in PEM/],
    [{ cert: join(dir, 'nowhere'), key }, /nowhere is missing/],
    [{ cert: dir, key }, /cannot be read \(EISDIR\)/],
    [{ cert, key: join(dir, 'gone') }, /gone is missing/],
    [{ cert, key: file('open', node.key, 0o644) }, /open can be read by others \(mode 644\)/],
  ]
  for (const [pair, message] of cases) {
    const text = told(() => readTlsPair(pair))
    assert.match(text, message)
    assert.ok(!text.includes(body))
  }
  assert.match(
    told(() => readCertificate(file('ca', ''))),
    /ca is empty/,
  )
})
