// Updates a secret that several writers share, without losing an update: read a version, change the value,
// write with If-Match of the version read, and start again where another writer was faster (412,
// `version-conflict`).
//
//   export COFFER_URL=http://127.0.0.1:8200 COFFER_KEY=cof_…
//   node --conditions=coffer-source examples/secrets-if-match.ts app/prod/WEBHOOK_KEYS k-7
//
// The secret's value is a JSON list of strings; the command appends its second argument.
import { setTimeout } from 'node:timers/promises'
import { Coffer, CofferError, type WrittenSecret } from 'coffer'

const TRIES = 20

const coffer = new Coffer({
  urls: process.env.COFFER_URL ?? 'http://127.0.0.1:8200',
  key: process.env.COFFER_KEY ?? '',
})

function isProblem(error: unknown, slug: CofferError['slug']): boolean {
  return error instanceof CofferError && error.slug === slug
}

/** The list with its version; version 0 and an empty list where the secret does not exist. */
async function read(name: string): Promise<{ version: number; list: string[] }> {
  try {
    const { version, value } = await coffer.secret(name)
    return { version, list: JSON.parse(value) }
  } catch (error) {
    if (isProblem(error, 'not-found')) return { version: 0, list: [] }
    throw error
  }
}

/** Appends `item`. Throws where other writers were faster TRIES times in a row. */
async function append(name: string, item: string): Promise<WrittenSecret> {
  for (let tried = 1; ; tried++) {
    const { version, list } = await read(name)
    const value = JSON.stringify([...list, item])
    try {
      // The client sends every write with an Idempotency-Key of its own: a retry after a lost answer counts
      // once.
      if (version === 0) return await coffer.createSecret(name, value)
      return await coffer.updateSecret(name, value, { ifVersion: version })
    } catch (error) {
      const lost = isProblem(error, 'version-conflict') || isProblem(error, 'secret-exists')
      if (!lost || tried === TRIES) throw error
      await setTimeout(Math.random() * 20 * tried) // so that writers do not collide again
    }
  }
}

const [name, item] = process.argv.slice(2)
if (name === undefined || item === undefined) {
  console.error('usage: secrets-if-match.ts <name> <item>')
  process.exit(2)
}
const { version } = await append(name, item)
console.log(`${name} has version ${version}`)
coffer.close()
