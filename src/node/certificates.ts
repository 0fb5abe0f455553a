// The certificates between the nodes of a vault: a private authority (CA), and the certificate of each node,
// signed by the authority. ECDSA over P-256, PEM. The library is loaded at its first use: other commands do
// not wait for it.
import { createPrivateKey, KeyObject, webcrypto, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { type Clock, randomHex } from '../clock.ts'
import { OperatorError } from '../errors.ts'

/** A certificate and its private key (PKCS #8), both PEM. */
export type Issued = { readonly cert: string; readonly key: string }

/** An authority cannot be used; the message says why, and what to do. */
export class CertificateError extends OperatorError {
  override readonly name = 'CertificateError'
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const
const SERIAL_BYTES = 16

const DAY_MS = 24 * 60 * 60 * 1000
/**
 * Clocks differ: a node whose clock is behind must accept a certificate that another machine has just made.
 */
const BACKDATED_MS = DAY_MS
/**
 * Ten years: a new authority has to reach every node before the first certificate of that authority is used.
 */
const AUTHORITY_MS = 3652 * DAY_MS
/**
 * Nothing revokes a certificate: the validity bounds the use of a stolen key. Two years, because a cluster
 * whose certificates have ended has no quorum: an operator who renews once a year may be a whole year late.
 */
const NODE_MS = 2 * 365 * DAY_MS

/** Names of every node on its own machine. */
const LOCAL = ['127.0.0.1', '::1', 'localhost']

export async function createAuthority(clock: Clock): Promise<Issued> {
  const { x509, subtle } = await library()
  const keys = await subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const { KeyUsageFlags } = x509
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=Coffer CA ${randomHex(clock, 8)}`,
    keys,
    ...common(clock, AUTHORITY_MS),
    extensions: [
      // The authority signs nodes, and no further authority.
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { cert: `${cert.toString('pem')}\n`, key: privatePem(keys.privateKey) }
}

type NodeNames = {
  readonly node: string
  /** Further names and addresses of the node, beside `node` and the local names. */
  readonly hosts?: readonly string[]
}

/** Throws CertificateError where the authority has ended, or its key belongs to another certificate. */
export async function issueCertificate(
  authority: Issued,
  { node, hosts = [] }: NodeNames,
  clock: Clock,
): Promise<Issued> {
  checkAuthority(authority, clock)
  const { x509, subtle } = await library()
  const ca = new x509.X509Certificate(authority.cert)
  const keys = await subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage
  const cert = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [node] }],
    issuer: ca.subjectName,
    publicKey: keys.publicKey,
    signingKey: await signingKey(authority.key),
    ...common(clock, Math.min(NODE_MS, ca.notAfter.getTime() - clock.now())), // not beyond the authority
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      // An etcd member has one certificate, for incoming and for outgoing connections.
      new x509.ExtendedKeyUsageExtension([serverAuth, clientAuth]),
      new x509.SubjectAlternativeNameExtension(
        [...new Set([...LOCAL, node, ...hosts])].map((name) => ({
          type: isIP(name) ? 'ip' : 'dns',
          value: name,
        })),
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
    ],
  })
  return { cert: `${cert.toString('pem')}\n`, key: privatePem(keys.privateKey) }
}

async function library(): Promise<{ x509: typeof import('@peculiar/x509'); subtle: webcrypto.SubtleCrypto }> {
  await import('reflect-metadata') // before x509, which needs reflection
  return { x509: await import('@peculiar/x509'), subtle: webcrypto.subtle }
}

function common(
  clock: Clock,
  validMs: number,
): {
  readonly serialNumber: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly signingAlgorithm: typeof SIGNING
} {
  const now = clock.now()
  return {
    // RFC 5280: positive, so the highest bit is not set, and not zero.
    serialNumber: `01${randomHex(clock, SERIAL_BYTES - 1)}`,
    notBefore: new Date(now - BACKDATED_MS),
    notAfter: new Date(now + validMs),
    signingAlgorithm: SIGNING,
  }
}

function privatePem(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** Through the bytes of the key: Node before 23 does not turn a KeyObject into a CryptoKey. */
function signingKey(pem: string): Promise<webcrypto.CryptoKey> {
  const bytes = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' })
  return webcrypto.subtle.importKey('pkcs8', bytes, ALGORITHM, false, ['sign'])
}

/** Throws CertificateError. */
function checkAuthority({ cert, key }: Issued, clock: Clock): void {
  const [ca, own] = parse(cert, key)
  if (!ca.ca) throw new CertificateError('its certificate is not that of an authority')
  if (!ca.checkPrivateKey(own)) throw new CertificateError('its key is not the one of its certificate')
  if (own.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new CertificateError('its key is not one of P-256: it was not made by `coffer init`')
  if (Date.parse(ca.validTo) <= clock.now())
    throw new CertificateError(`it has ended on ${ca.validTo}: the vault needs a new authority on every node`)
}

function parse(cert: string, key: string): [X509Certificate, KeyObject] {
  try {
    return [new X509Certificate(cert), createPrivateKey(key)]
  } catch {
    // The message of OpenSSL helps nobody, and may quote the key.
    throw new CertificateError('its certificate or its key is not PEM')
  }
}
