// Asks the nodes of an unpacked fixture for everything that was acknowledged when the fixture was made.
import assert from 'node:assert/strict'
import { until } from '../cli/cli.ts'
import type { Kept } from './fixture.ts'

type Json = Record<string, unknown>
type Sent = {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

async function call(
  url: string,
  key: string,
  path: string,
  { method = 'GET', headers = {}, body }: Sent = {},
) {
  const type = body === undefined ? {} : { 'content-type': 'application/json' }
  const answer = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${key}`, ...type, ...headers },
    ...(body === undefined ? {} : { body }),
  })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

async function jsonOf(url: string, key: string, path: string, body?: unknown): Promise<Json> {
  const sent = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }
  const { status, text } = await call(url, key, path, sent)
  assert.equal(status, 200, `${path}: ${text}`)
  return JSON.parse(text)
}

async function checkTokens(url: string, { owners, tokens: all }: Kept): Promise<void> {
  for (const { owner, values, tokens } of all) {
    const key = owners[owner]
    assert.deepEqual(await jsonOf(url, key, '/detokenize', { tokens }), { values, not_found: [] }, owner)
    for (const [other, otherKey] of Object.entries(owners)) {
      if (other === owner) continue
      const { not_found } = await jsonOf(url, otherKey, '/detokenize', { tokens })
      assert.deepEqual(not_found, [...tokens.keys()], `${other} cannot read tokens of ${owner}`)
    }
    // The same values get the same tokens, under the epoch that is active.
    const { epoch, tokens: again } = await jsonOf(url, key, '/tokenize', { values })
    if (tokens[0].startsWith(`tok_${epoch}_`)) assert.deepEqual(again, tokens, owner)
  }
}

async function checkSecrets(url: string, { owners, secrets }: Kept): Promise<void> {
  for (const { owner, name, values, history } of secrets) {
    const key = owners[owner]
    assert.deepEqual(await jsonOf(url, key, `/secrets/${name}/history`), history, name)
    for (const [i, value] of values.entries()) {
      const read = await jsonOf(url, key, `/secrets/${name}?version=${i + 1}`)
      assert.equal(read.value, value, `${name} ${i + 1}`)
      const at = encodeURIComponent(String(read.valid_from))
      assert.equal((await jsonOf(url, key, `/secrets/${name}?at=${at}`)).value, value, `${name} at ${at}`)
    }
    assert.equal((await jsonOf(url, key, `/secrets/${name}`)).value, values.at(-1), name)
  }
}

async function checkReceipts(url: string, { owners, receipts }: Kept): Promise<void> {
  for (const { owner, path, status, answer, ...sent } of receipts) {
    const again = await call(url, owners[owner], path, sent)
    assert.deepEqual([again.status, again.text], [status, answer], path)
    assert.equal(again.headers.get('idempotency-replayed'), 'true', path)
  }
}

async function checkDigest(url: string, { owners, digest }: Kept): Promise<void> {
  const [key] = Object.values(owners)
  await until(`${url} has applied everything, and holds the same`, async () => {
    const { ledger, replica } = (await jsonOf(url, key, '/status')) as { ledger: Json; replica: Json }
    return ledger.revision === replica.revision && replica.digest === digest
  })
}

/** Reads everything back at every node. Values of a closed epoch get tokens of the active epoch by this. */
export async function checkKept(urls: readonly string[], kept: Kept): Promise<void> {
  for (const url of urls) await checkDigest(url, kept)
  for (const url of urls) {
    await checkSecrets(url, kept)
    await checkReceipts(url, kept)
    await checkDigest(url, kept)
  }
  for (const url of urls) await checkTokens(url, kept)
}
