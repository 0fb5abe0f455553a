// Heads that the ledger has accepted, told in another order than they were committed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Replica } from '../replica/replica.ts'
import { Heads } from './heads.ts'

test('a creation that is told behind a later version changes nothing', async () => {
  const applied = Promise.withResolvers<void>()
  const versions: { readonly validFrom: number }[] = []
  const replica = {
    applied: 5,
    owner: () => ({ secrets: new Map([['s', versions]]) }),
    waitApplied: () => applied.promise,
  }
  const heads = new Heads(replica as unknown as Replica)
  heads.accepted('o', ['s'], { version: 2, validFrom: 20 }, 7)
  // The answer was lost, and the entry was wrapped anew since: the creation has a later revision.
  heads.accepted('o', ['s', 'new'], { version: 1, validFrom: 10 }, 8)
  assert.deepEqual(heads.of('o', 's'), { version: 2, validFrom: 20 })
  assert.equal(heads.validFrom('o', 's', 1), undefined)
  assert.deepEqual(heads.of('o', 'new'), { version: 1, validFrom: 10 })
  versions.push({ validFrom: 10 }, { validFrom: 20 })
  applied.resolve()
  await new Promise(setImmediate)
  assert.deepEqual(heads.of('o', 's'), { version: 2, validFrom: 20 })
  assert.equal(heads.validFrom('o', 's', 2), undefined)
})
