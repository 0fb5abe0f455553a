// Tokenizes a stream of records: JSON objects on stdin, one a line; the same objects on stdout, with tokens
// in the fields that the node's configuration names (`tokenize: { fields: [patient.ssn] }`).
//
//   export COFFER_URL=http://127.0.0.1:8200 COFFER_KEY=cof_…
//   node --conditions=coffer-source examples/tokenize-stream.ts < patients.ndjson > tokenized.ndjson
//
// Memory stays bounded however long the stream is: one batch is in flight at a time, and the next lines are
// read only after stdout has taken the records of the batch before.
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { Coffer } from 'coffer'

/**
 * A request may hold 100,000 values and 16 MiB by default. Throughput no longer grows beyond some thousand
 * values.
 */
const BATCH_RECORDS = 1000
const BATCH_CHARACTERS = 4 * 1024 * 1024

/**
 * Groups lines into batches of records. JSON.parse rounds numbers beyond 2^53: send such numbers as strings.
 */
async function* batches(lines: AsyncIterable<string>): AsyncGenerator<object[]> {
  let batch: object[] = []
  let characters = 0
  for await (const line of lines) {
    if (line === '') continue
    batch.push(JSON.parse(line))
    characters += line.length
    if (batch.length === BATCH_RECORDS || characters >= BATCH_CHARACTERS) {
      yield batch
      batch = []
      characters = 0
    }
  }
  if (batch.length > 0) yield batch
}

const coffer = new Coffer({
  urls: process.env.COFFER_URL ?? 'http://127.0.0.1:8200',
  key: process.env.COFFER_KEY ?? '',
})
let count = 0
let replaced = 0

async function* tokenized(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const batch of batches(lines)) {
    // A node that fails is replaced by the next URL within this call; a call that throws was tried until its
    // deadline.
    const answer = await coffer.tokenizeRecords(batch)
    count += answer.records.length
    replaced += answer.replaced
    yield answer.records.map((record) => `${JSON.stringify(record)}\n`).join('')
  }
}

const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
await pipeline(tokenized(lines), process.stdout)
console.error(`${count} records, ${replaced} values replaced`)
coffer.close()
