// A member that the system cannot start: told, tried again, and no end of the node.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../waiting.ts'
import { parseConfig } from './config.ts'
import { startMember } from './member.ts'

for (const [fault, etcd, isFull] of [
  ['spawn throws, as without memory', 'etcd\0', false],
  ['there is no directory for the log of the member', 'etcd', true],
] as const) {
  test(`${fault}: the reason is told, the start is tried again, and a stop ends all`, async () => {
    const dir = mkdtempSync(join(tmpdir(), 'coffer-member-'))
    try {
      const config = parseConfig(
        `{ node: n1, listen: "127.0.0.1:1", data: n1, keyring: keyring.json, owners: [{ id: a }],
           ledger: { kind: etcd, endpoints: ["http://127.0.0.1:2"], member: { client: "http://127.0.0.1:2",
             peer: "http://127.0.0.1:3", cluster: { n1: "http://127.0.0.1:3" }, token: a-cluster } } }`,
        join(dir, 'n1.yaml'),
      )
      mkdirSync(config.data)
      if (isFull) writeFileSync(join(dir, 'run'), 'a file in the place of the directory')
      const told: string[] = []
      const log = { info: () => undefined, error: () => undefined }
      const member = startMember({
        config,
        etcd: { path: etcd, version: '3.7.3' },
        log: { ...log, warn: (_, message) => void told.push(message) },
      })
      await until(() => told.length > 1, { every: 5, within: 10_000 })
      assert.match(told[1], /^the member has ended with .*(null bytes|EEXIST|ENOTDIR)/)
      assert.equal(member.problem, told[0])
      await member.stop()
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
}
