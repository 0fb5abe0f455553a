// The nodes that are fuzzed.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { createAuthority, issueCertificate } from '../../src/node/certificates.ts'
import { Vault } from '../http/vault.ts'

export function startVault(): Promise<Vault> {
  return Vault.start({ fields: ['ssn', 'contacts[].phone'] })
}

export async function startTlsVault(): Promise<Vault> {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-fuzz-'))
  const files = { cert: join(dir, 'n1.crt'), key: join(dir, 'n1.key') }
  try {
    const { cert, key } = await issueCertificate(
      await createAuthority(systemClock),
      { node: 'n1' },
      systemClock,
    )
    writeFileSync(files.cert, cert)
    writeFileSync(files.key, key, { mode: 0o600 })
    return await Vault.start({ tls: files })
  } finally {
    rmSync(dir, { recursive: true })
  }
}
