// docs/errors.md is the table of errors. COFFER_UPDATE=1 writes it anew.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { PROBLEMS, type ProblemEntry } from '../../src/errors.ts'

const FILE = join(import.meta.dirname, '../../docs/errors.md')

const HEAD = `# Errors

Every error is an RFC 9457 problem, \`application/problem+json\`: \`type\` (\`/problems/<slug>\`; \`GET\` of it tells
title and meaning), \`title\`, \`status\`, \`detail\`, \`instance\` (the request id, also in \`X-Request-Id\`), and the
members below. No error repeats a value, a secret or a key. Tell problems apart by \`type\`: \`detail\` is for people and
may change. Where \`Retry-After\` (seconds) stands, the same request may succeed later.

\`COFFER_UPDATE=1 npm test -- errors-doc\` writes this page from the table in \`src/errors.ts\`.
`

const LEGEND = `
| member | what |
|---|---|
| \`path\` | the place of the fault: \`records[0].contacts[1].phone\`, \`values[3]\`, a parameter or header, \`""\` for the whole body |
| \`expected\`, \`reason\` | what belongs there; why the value cannot be stored |
| \`missing\`, \`names\` | all references that were not found; the secrets that exist, or are named twice |
| \`epoch\`, \`version\` | the active epoch, the latest version |
| \`outcome\` | \`not-applied\`: nothing of the request reached the ledger; or \`unknown\` |
| \`reasons\` | a list of texts |
| \`needs\`, \`prefix\`, \`resolve_per_day\` | the right that the key lacks; the prefix, and the budget of values a day, that the key has |
| \`quota\`, \`used\` | bytes that the owner may store, and bytes that count already |
`

function row([slug, { status, about, members, retryAfter }]: [string, ProblemEntry]): string {
  const after = retryAfter === undefined ? [] : [`after ${retryAfter} s`]
  const beside = [...members.map((member) => `\`${member}\``), ...after].join(', ')
  const cells = [status, `\`${slug}\``, about, beside].map((cell) => String(cell).replaceAll('|', '\\|'))
  return `| ${cells.join(' | ')} |`.replace('|  |', '| |')
}

function page(): string {
  const rows = Object.entries(PROBLEMS)
    .sort(([, a], [, b]) => a.status - b.status)
    .map(row)
  const table = ['| status | problem | what it means, what to do | members, `Retry-After` |']
  return [HEAD, [...table, '|---|---|---|---|', ...rows].join('\n'), LEGEND].join('\n')
}

test('docs/errors.md is the table of errors', () => {
  if (process.env.COFFER_UPDATE === '1') writeFileSync(FILE, page())
  assert.equal(readFileSync(FILE, 'utf8'), page(), 'COFFER_UPDATE=1 writes it anew')
})

test('every member of a problem is explained', () => {
  for (const [slug, { members }] of Object.entries(PROBLEMS)) {
    for (const member of members) assert.ok(LEGEND.includes(`\`${member}\``), `${slug}: ${member}`)
  }
})

test('the table has the problems of the contract, with their statuses', () => {
  const contract: Record<number, string[]> = {
    400: ['invalid-json', 'invalid-request'],
    401: ['unauthorized'],
    403: ['forbidden', 'quota-exceeded', 'budget-exceeded'],
    404: ['not-found', 'refs-not-found'],
    405: ['method-not-allowed'],
    409: ['epoch-conflict', 'secret-exists', 'idempotency-in-progress'],
    412: ['version-conflict'],
    413: ['too-large', 'too-many-values', 'answer-too-large'],
    415: ['unsupported-media-type'],
    422: ['not-a-scalar', 'invalid-value', 'already-a-token', 'field-missing', 'idempotency-key-reused'],
    500: ['internal'],
    503: [
      ...['no-quorum', 'ledger-full', 'disk-full', 'overloaded', 'not-ready', 'stopping'],
      ...['ledger-changed', 'unknown-root-key'],
    ],
  }
  const table: Record<number, string[]> = {}
  for (const [slug, { status }] of Object.entries(PROBLEMS)) {
    table[status] ??= []
    table[status].push(slug)
  }
  assert.deepEqual(table, contract)
})
