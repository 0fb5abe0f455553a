// What the tests of secrets over HTTP share: the calls that are needed everywhere, and how a refusal has to look.
import assert from 'node:assert/strict'
import { PROBLEMS, type Slug } from '../../src/errors.ts'
import { type Answer, bearer, KEY_A, type Vault } from './vault.ts'

/** Stands in values and in bad input: no refusal may repeat it. */
export const CANARY = 'c4n4ry-5ec7e7'
/** As the answers write instants. */
export const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
export const KIB = 1024

export const pathOf = (name: string): string => `/secrets/${encodeURIComponent(name)}`

/** As the contract has them. */
export type Written = { name: string; version: number; valid_from: string }
export type Line = {
  version: number
  valid_from: string
  valid_to: string | null
  key_id: string
  request_id: string
}

/** Creates it, and gives what was answered. */
export async function create(vault: Vault, name: string, value: string, key = KEY_A): Promise<Written> {
  const answer = await vault.post('/secrets', { name, value }, bearer(key))
  assert.equal(answer.status, 201, answer.text)
  return answer.json as Written
}

export async function update(vault: Vault, name: string, value: string, key = KEY_A): Promise<Written> {
  const answer = await vault.call('PUT', pathOf(name), { value }, bearer(key))
  assert.equal(answer.status, 200, answer.text)
  return answer.json as Written
}

/** The latest value. */
export async function latestOf(vault: Vault, name: string, key = KEY_A): Promise<unknown> {
  const answer = await vault.get(pathOf(name), bearer(key))
  assert.equal(answer.status, 200, answer.text)
  return answer.json.value
}

export async function historyOf(vault: Vault, name: string, key = KEY_A): Promise<Line[]> {
  const answer = await vault.get(`${pathOf(name)}/history`, bearer(key))
  assert.equal(answer.status, 200, answer.text)
  assert.deepEqual(Object.keys(answer.json), ['name', 'versions'])
  assert.equal(answer.json.name, name)
  return answer.json.versions as Line[]
}

/** All names of the owner, in one page. */
export async function namesOf(vault: Vault, key = KEY_A): Promise<string[]> {
  const answer = await vault.get('/secrets?limit=1000', bearer(key))
  assert.deepEqual([answer.status, answer.json.next], [200, null], answer.text)
  return answer.json.names as string[]
}

/**
 * A problem of the documented form, with exactly these members beside the common ones (`expected` and `reason` apart,
 * which are words) and no canary.
 */
export async function refused(
  asked: Answer | Promise<Answer>,
  status: number,
  slug: Slug,
  members: Readonly<Record<string, unknown>> = {},
  what = '',
): Promise<Answer> {
  const answer = await asked
  const { headers, json } = answer
  assert.deepEqual([answer.status, json.type], [status, `/problems/${slug}`], `${what} ${answer.text}`)
  assert.equal(headers['content-type'], 'application/problem+json', what)
  const { type: _, title, status: inside, detail, instance, expected, reason, ...rest } = json
  assert.deepEqual(rest, members, `${what} ${answer.text}`)
  assert.equal(inside, status, what)
  for (const words of [title, detail]) assert.ok(typeof words === 'string' && words !== '', what)
  assert.equal(instance, headers['x-request-id'], what)
  const documented = PROBLEMS[slug].members
  for (const [name, words] of Object.entries({ expected, reason })) {
    if (documented.includes(name)) assert.ok(typeof words === 'string' && words !== '', what)
    else assert.equal(words, undefined, what)
  }
  const after = PROBLEMS[slug].retryAfter
  assert.equal(headers['retry-after'], after === undefined ? undefined : String(after), what)
  for (const name of ['etag', 'idempotency-replayed']) assert.equal(headers[name], undefined, what)
  assert.ok(!(answer.text + JSON.stringify(headers)).includes(CANARY), `repeats a value: ${answer.text}`)
  return answer
}

/** Status, body and headers but for the request id and the date. */
export function visible(answer: Answer): unknown {
  const { 'x-request-id': id, date, ...headers } = answer.headers
  assert.ok(typeof id === 'string' && date)
  return { status: answer.status, headers, text: answer.text.replaceAll(id, '(id)') }
}
