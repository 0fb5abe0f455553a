import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { type Clock, systemClock } from '../clock.ts'
import { CertificateError, createAuthority, issueCertificate } from './certificates.ts'

const YEAR_MS = 365 * 24 * 60 * 60 * 1000

const inYears = (years: number): Clock => ({ ...systemClock, now: () => systemClock.now() + years * YEAR_MS })

test('a certificate ends with its authority at the latest, and one that has ended signs nothing', async () => {
  const authority = await createAuthority(systemClock)
  const end = new X509Certificate(authority.cert).validTo
  const until = async (clock: Clock): Promise<string> =>
    new X509Certificate((await issueCertificate(authority, { node: 'n1' }, clock)).cert).validTo
  assert.ok(Date.parse(await until(inYears(7))) < Date.parse(end))
  assert.equal(await until(inYears(9)), end)
  await assert.rejects(until(inYears(11)), CertificateError)
})

test('a certificate of a node is no authority', async () => {
  const authority = await createAuthority(systemClock)
  const node = await issueCertificate(authority, { node: 'n1' }, systemClock)
  await assert.rejects(issueCertificate(node, { node: 'n2' }, systemClock), /not that of an authority/)
})
