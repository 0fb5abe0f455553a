// Nobody changes the bytes of a stored form without raising its format: the bytes of each format stand in bytes/, and are
// never written over.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { REPLICA_FORMAT } from '../../src/state/stored.ts'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'
import { Folder } from '../cli/cli.ts'
import { type Bytes, ledgerBytes, replicaBytes } from './bytes.ts'

const FORMS = [
  {
    name: `ledger-${LEDGER_FORMAT}`,
    make: ledgerBytes,
    todo: [
      'raise LEDGER_FORMAT (src/state/writer.ts), and FILE_FORMAT (src/ledger/lmdb-records.ts) where it is the file',
      'of an embedded ledger; keep the old fixture and the old bytes, and make the new ones:',
      'node test/upgrade/make.ts, and this test with COFFER_UPDATE=1',
    ].join(' '),
  },
  {
    name: `replica-${REPLICA_FORMAT}`,
    make: replicaBytes,
    todo: [
      'raise REPLICA_FORMAT (src/state/stored.ts), so that replicas are built anew; keep the old bytes, and make the',
      'new ones: this test with COFFER_UPDATE=1',
    ].join(' '),
  },
]

for (const { name, make, todo } of FORMS) {
  test(`the bytes of ${name} are those that belong to the format`, async () => {
    using folder = new Folder()
    const made: Bytes = await make(folder.path)
    const file = join(import.meta.dirname, 'bytes', `${name}.json`)
    if (!existsSync(file) && process.env.COFFER_UPDATE === '1') {
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, `${JSON.stringify(made, null, 2)}\n`)
    }
    assert.ok(existsSync(file), `${file} is missing: COFFER_UPDATE=1 writes it, once a format`)
    const wanted: Bytes = JSON.parse(readFileSync(file, 'utf8'))
    const names = [...new Set([...Object.keys(wanted), ...Object.keys(made)])]
    const changed = names.filter((each) => wanted[each] !== made[each])
    assert.deepEqual(changed, [], `the bytes of ${name} have changed, and the format has not: ${todo}`)
  })
}
