import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../clock.ts'
import type { TokenCalls } from '../http/token-calls.ts'
import { createAuthority, issueCertificate } from '../node/certificates.ts'
import type { RunningNode } from './running-node.ts'
import { endingCertificates, Warnings } from './warnings.ts'

const DAY_MS = 24 * 60 * 60 * 1000

test('certificates that end within 30 days are named, and those that cannot be read', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-warnings-'))
  try {
    const cert = join(dir, 'n1.crt')
    writeFileSync(
      cert,
      (await issueCertificate(await createAuthority(systemClock), { node: 'n1' }, systemClock)).cert,
    )
    const none = join(dir, 'none.crt')
    const config = {
      tls: { cert: none, key: '' },
      ledger: { kind: 'etcd', endpoints: [], tls: { ca: '', cert, key: '' } },
    } as const
    const named = (days: number): (readonly [string, boolean])[] =>
      endingCertificates(config, systemClock.now() + days * DAY_MS).map(({ file, warning }) => [
        file,
        /ends at \d{4}-/.test(warning),
      ])
    assert.deepEqual(named(0), [[none, false]])
    assert.deepEqual(named(2 * 365 - 20), [
      [none, false],
      [cert, true],
    ])
    const [, { warning }] = endingCertificates(config, systemClock.now() - 30 * DAY_MS)
    assert.match(warning, /not valid before \d{4}-/)
    assert.deepEqual(endingCertificates({ ledger: { kind: 'embedded', endpoints: [] } }, 0), [])
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('a version more than a minute in the future is warned of, once a day', () => {
  const NOW = Date.UTC(2026, 0, 1)
  const warned: object[] = []
  let monotonic = 0
  let latest = NOW + 60_000
  const replica = { owner: (id: string) => (id === 'a' ? undefined : { latest }) }
  const node = {
    clock: { now: () => NOW, monotonic: () => monotonic, random: () => Buffer.alloc(0) },
    owners: [{ id: 'a' }, { id: 'b' }],
    services: { replica },
    log: { warn: (fields: object) => warned.push(fields) },
  } as unknown as RunningNode
  const warnings = new Warnings(node, {} as TokenCalls)
  warnings.wrongClock()
  assert.deepEqual(warned, [])
  latest = NOW + 61_000
  const minute = 60_000
  for (monotonic of [minute, 2 * minute, minute + DAY_MS - 1]) warnings.wrongClock()
  assert.deepEqual(warned, [{ seconds: 61 }])
  monotonic = minute + DAY_MS
  warnings.wrongClock()
  assert.equal(warned.length, 2)
})
