// Opens the next epoch and moves stored tokens to it: tokens on stdin, one a line; `old,new` lines on stdout,
// to update a table with. No value leaves the node. Tokens of the epoch before stay valid for detokenize.
//
//   export COFFER_URL=http://127.0.0.1:8200 COFFER_KEY=cof_…
//   node --conditions=coffer-source examples/rotate-and-migrate.ts 2 < tokens.txt > moves.csv
//
// The argument is the epoch to open, the active one plus one. The number makes the command repeatable: after
// a crash the same command finds the epoch open, opens no further one, and moves the tokens again with the
// same result.
import { createInterface } from 'node:readline'
import { Coffer, CofferError } from 'coffer'

const BATCH = 5000

const coffer = new Coffer({
  urls: process.env.COFFER_URL ?? 'http://127.0.0.1:8200',
  key: process.env.COFFER_KEY ?? '',
})
let moved = 0
let missing = 0

/** Prints the token under the active epoch of every token that is found. Reports the others on stderr. */
async function move(tokens: readonly string[]): Promise<void> {
  const answer = await coffer.retokenize(tokens)
  const notFound = new Set(answer.notFound)
  for (const [i, token] of tokens.entries()) {
    if (notFound.has(i)) console.error(`not found: line ${moved + missing + i + 1}`)
    else console.log(`${token},${answer.tokens[i]}`)
  }
  moved += tokens.length - notFound.size
  missing += notFound.size
}

const to = Number(process.argv[2])
try {
  const { epoch, rotated } = await coffer.rotateEpoch(to)
  console.error(rotated ? `epoch ${epoch} is open` : `epoch ${epoch} was open already`)
} catch (error) {
  if (!(error instanceof CofferError) || error.slug !== 'epoch-conflict') throw error
  console.error(`the active epoch is ${error.members.epoch}; give it, or the next number`)
  process.exit(1)
}

let batch: string[] = []
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== '') batch.push(line)
  if (batch.length === BATCH) {
    await move(batch)
    batch = []
  }
}
if (batch.length > 0) await move(batch)
console.error(`${moved} tokens moved, ${missing} not found`)
coffer.close()
