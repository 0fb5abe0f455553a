import assert from 'node:assert/strict'
import { test } from 'node:test'
import { found, IDENTITY } from '../../test/sim/genesis.ts'
import { Deadline } from '../clock.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { decodeEntry, encodeEntry, type Genesis } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { type Witnesses, witnessesAfter } from '../state/witness.ts'
import { ledgerMismatch, readGenesis } from './recognition.ts'

const WRITER = { boot: 'a'.repeat(32), commit: 1 }

type Known = { ledger: MemoryLedger; genesis: Genesis; witnesses: Witnesses }

/** A ledger of three revisions, and the witnesses of who has applied it. */
async function known(): Promise<Known> {
  const ledger = new MemoryLedger()
  await found(ledger)
  await ledger.commit({ if: [], put: [epochOf('o', 1)] }, Deadline.never)
  const boot = encodeEntry({ kind: 'boot', boot: WRITER.boot, node: 'n1' }, WRITER)
  await ledger.commit({ if: [], put: [{ key: ledgerKey.boot(WRITER.boot), value: boot }] }, Deadline.never)
  const keys = [ledgerKey.genesis, ledgerKey.epoch('o'), ledgerKey.boot(WRITER.boot)]
  const puts = (await Promise.all(keys.map((key) => ledger.read(key)))).map((put) => {
    const entry = put.value && decodeEntry(put.key, put.value)
    assert.ok(put.value && entry)
    return { ...put, value: put.value, entry }
  })
  const genesis = await readGenesis(ledger)
  assert.ok(genesis)
  return { ledger, genesis, witnesses: witnessesAfter({}, puts) }
}

function epochOf(owner: string, active: number): { key: string; value: Uint8Array } {
  return { key: ledgerKey.epoch(owner), value: encodeEntry({ kind: 'epoch', owner, active }, WRITER) }
}

test('the followed ledger is known again, however it goes on', async () => {
  const { ledger, genesis, witnesses } = await known()
  const followed = { ledger: IDENTITY, cursor: 3, witnesses }
  assert.equal(await ledgerMismatch(ledger, genesis, followed), undefined)
  await ledger.commit({ if: [], put: [epochOf('o', 2)] }, Deadline.never)
  assert.equal(await ledgerMismatch(ledger, genesis, followed), undefined)
  assert.equal(await ledgerMismatch(ledger, genesis, { ...followed, cursor: 1, witnesses: {} }), undefined)
})

test('another identity, an earlier head, and each witness that does not hold are told', async () => {
  const { ledger, genesis, witnesses } = await known()
  const followed = { ledger: IDENTITY, cursor: 3, witnesses }
  const other = { ...followed, ledger: 'f'.repeat(32) }
  assert.match(
    String(await ledgerMismatch(ledger, genesis, other)),
    /^the ledger is e+, and the replica follows f+$/,
  )
  const ahead = await ledgerMismatch(ledger, genesis, { ...followed, cursor: 4 })
  assert.equal(ahead, 'the ledger ends at revision 3, and revision 4 has been applied or accepted')
  for (const [slot, name] of [
    ['boot', 'the boot'],
    ['epoch', 'the active epoch'],
    ['genesis', 'the genesis'],
  ] as const) {
    const witness = witnesses[slot]
    assert.ok(witness)
    const changed = { ...witnesses, [slot]: { ...witness, crc: witness.crc ^ 1 } }
    const reason = await ledgerMismatch(ledger, genesis, { ...followed, witnesses: changed })
    assert.equal(
      reason,
      `the ledger does not hold ${name} of revision ${witness.revision} as it was applied here`,
    )
  }
})

test('all is asked for at once, so that a far member costs one way there and back', async () => {
  const { ledger, genesis, witnesses } = await known()
  let [open, most] = [0, 0]
  const asking = async <T>(answer: Promise<T>): Promise<T> => {
    most = Math.max(most, ++open)
    await new Promise((resolve) => setImmediate(resolve))
    open--
    return answer
  }
  const reader = {
    head: () => asking(ledger.head()),
    read: (key: string) => asking(ledger.read(key)),
  }
  assert.equal(await ledgerMismatch(reader, genesis, { ledger: IDENTITY, cursor: 3, witnesses }), undefined)
  assert.equal(most, 1 + Object.keys(witnesses).length)
})
