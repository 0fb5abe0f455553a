// Certificates and keys from files, checked before use: OpenSSL's own messages name no file.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { withReserve } from '../descriptors.ts'
import { errorCode, OperatorError } from '../errors.ts'
import type { LedgerTls, TlsFiles } from '../ledger/drivers.ts'
import { readPrivateFile } from './private-file.ts'

/** A file of TLS cannot be used; the message names the file, the fault and the next step. */
class TlsFileError extends OperatorError {
  override readonly name = 'TlsFileError'
}

type Pair = { readonly cert: string; readonly key: string }

/**
 * The content of a certificate, perhaps a chain, and of its key. Throws TlsFileError, and PrivateFileError
 * where others have a right on the key.
 */
export function readTlsPair({ cert, key }: Pair): { readonly cert: Buffer; readonly key: Buffer } {
  const certText = readText(cert)
  const certificate = certificateOf(certText, cert)
  const keyText = readPrivateFile(key)
  if (!certificate.checkPrivateKey(keyOf(keyText, key)))
    throw new TlsFileError(`${key} is not the key of the certificate in ${cert}`, {
      hint: 'put the key in place that the certificate was made for',
    })
  return { cert: Buffer.from(certText), key: Buffer.from(keyText) }
}

/** The content of `ledger.tls` of a configuration. Throws as `readTlsPair`. */
export function readLedgerTls({ ca, ...pair }: TlsFiles): LedgerTls {
  return { ca: readCertificate(ca), ...readTlsPair(pair) }
}

/** Throws TlsFileError where the file has no certificate. */
export function readCertificate(path: string): Buffer {
  const text = readText(path)
  certificateOf(text, path)
  return Buffer.from(text)
}

function readText(path: string): string {
  try {
    return withReserve(() => readFileSync(path, 'utf8'))
  } catch (error) {
    const code = errorCode(error)
    if (code === undefined) throw error
    const why = code === 'ENOENT' ? 'is missing' : `cannot be read (${code})`
    throw new TlsFileError(`${path} ${why}`, {
      cause: error,
      hint: 'put the certificate there, readable by the user of the node, or correct the path',
    })
  }
}

function certificateOf(text: string, path: string): X509Certificate {
  const hint = 'put a certificate in PEM there'
  if (!text.includes('-----BEGIN CERTIFICATE-----') && text.includes('PRIVATE KEY-----'))
    throw new TlsFileError(`${path} is a private key, not a certificate`, { hint: 'swap `cert` and `key`' })
  try {
    return new X509Certificate(text)
  } catch {
    throw new TlsFileError(`${path} ${text.trim() === '' ? 'is empty' : 'is not a certificate in PEM'}`, {
      hint,
    })
  }
}

function keyOf(text: string, path: string): KeyObject {
  const hint = 'put the private key of the certificate there, in PEM and without a passphrase'
  if (/-----BEGIN ENCRYPTED|^Proc-Type:.*ENCRYPTED/m.test(text))
    throw new TlsFileError(`${path} is encrypted, and a node cannot ask for a passphrase`, {
      hint: `decrypt the key: openssl pkey -in ${path}`,
    })
  if (!text.includes('PRIVATE KEY-----') && text.includes('-----BEGIN CERTIFICATE-----'))
    throw new TlsFileError(`${path} is a certificate, not a private key`, { hint: 'swap `cert` and `key`' })
  try {
    return createPrivateKey(text)
  } catch {
    throw new TlsFileError(`${path} ${text.trim() === '' ? 'is empty' : 'is not a private key in PEM'}`, {
      hint,
    })
  }
}
