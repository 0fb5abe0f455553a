// A rewrap puts every version again, and etcd keeps what was there before until its history is compacted: a rewrap alone
// fills no ledger so far that it refuses new tokens, or has no room left.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import { systemClock } from '../../src/clock.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { replaceFile } from '../../src/files.ts'
import { EtcdEndpoint } from '../../src/ledger/etcd-client.ts'
import { Folder, init, NodeProcess, until } from '../cli/cli.ts'
import { Etcd } from './etcd.ts'

const QUOTA = 128 * 1024 * 1024
const MOST_MS = 60_000

/** Secrets of 60 KiB, the part of the quota that they alone take at least, and where the ledger must end. */
const VAULTS = [
  { secrets: 1000, live: 0.4, end: 0.75 },
  { secrets: 1450, live: 0.6, end: 1 },
]

for (const { secrets, live, end } of VAULTS) {
  test(`a rewrap waits from 60 % of the quota on, and goes on after a compaction: ${secrets} secrets`, async (t) => {
    using folder = new Folder()
    const etcd = await Etcd.start({ 'quota-backend-bytes': String(QUOTA) })
    const endpoint = new EtcdEndpoint(etcd.url)
    try {
      const { default: key } = await init(folder.file('v'), '--port', '0')
      const [config, ring] = [folder.file('v', 'n1.yaml'), folder.file('v', 'keyring.json')]
      const text = readFileSync(config, 'utf8')
      writeFileSync(config, text.replace('kind: embedded', `kind: etcd\n  endpoints: [${etcd.url}]`))
      await using node = await NodeProcess.start(config, 30_000)
      const client = new Coffer({ urls: node.url, key, timeoutMs: 20_000 })
      const value = 'x'.repeat(60 * 1024)
      for (let made = 0; made < secrets; made += 5)
        await client.createSecrets(Array.from({ length: 5 }, (_, i) => ({ name: `s${made + i}`, value })))
      const used = async (): Promise<{ size: number; inUse: number }> => {
        await endpoint.ready(10_000)
        const { dbSize, dbSizeInUse } = await endpoint.status(10_000)
        return { size: Number(dbSize) / QUOTA, inUse: Number(dbSizeInUse) / QUOTA }
      }
      const before = await used()
      const left = async (): Promise<number> => {
        const metrics = await (await fetch(`${node.url}/metrics`)).text()
        const active = /coffer_root_keys\{root_key="([^"]+)",active="true"/.exec(metrics)?.[1]
        return [...metrics.matchAll(/coffer_wrapped_keys\{root_key="([^"]+)"\} (\d+)/g)]
          .filter(([, id]) => id !== active)
          .reduce((sum, [, , count]) => sum + Number(count), 0)
      }
      /** The rewrap of another root key, up to its end or to the quota. */
      const rewrap = async (): Promise<void> => {
        const now = Keyring.parse(readFileSync(ring, 'utf8'))
        const fresh = newRootKey(systemClock)
        const read = node.told('keyring re-read')
        replaceFile(ring, now.add(fresh).activate(fresh.id).askRewrap(true).serialize())
        node.signal('SIGHUP')
        // A reload renders /metrics anew: `left` is of the new keyring from then on.
        await until('the keyring is read', () => node.told('keyring re-read') > read, 30_000)
      }
      const ended = async (): Promise<boolean> => (await left()) === 0
      assert.ok(before.inUse >= live, `${before.inUse}`)
      await rewrap()
      await until(
        'the rewrap waits',
        async () => {
          assert.ok((await used()).size < end, 'a rewrap alone has filled the ledger')
          return node.told('rewrapping waits for room') === 1
        },
        MOST_MS,
      )
      const waiting = await used()
      const rest = await left()
      assert.ok(rest > 0, 'nothing was left to wait for')
      t.diagnostic(
        `in use before ${before.inUse.toFixed(2)}, waiting ${waiting.inUse.toFixed(2)} with ${rest} left`,
      )
      assert.ok(waiting.inUse >= 0.6 && waiting.size < end, `${waiting.inUse} and ${waiting.size}`)
      if (end < 1) assert.equal((await client.tokenize(['new'])).epoch, 1, 'new tokens are taken')
      await client.createSecret('new', 'taken in any case')
      let compacted = 0
      await until(
        'the rewrap goes on to its end',
        async () => {
          const { header } = await endpoint.range({ key: Buffer.from('a') }, 5000)
          const head = Number(header.revision)
          if (head > compacted) await endpoint.compact(head, 20_000)
          compacted = head
          return ended()
        },
        MOST_MS,
      )
      assert.equal((await client.secret('s0')).value.length, value.length)
      const after = await used()
      t.diagnostic(`after compaction ${after.inUse.toFixed(2)}, size ${after.size.toFixed(2)}`)
      assert.ok(after.size < 1)
      client.close()
    } finally {
      endpoint.close()
      await etcd.remove()
    }
  })
}
