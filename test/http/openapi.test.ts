// The OpenAPI document against a node, by Schemathesis (PyPI): requests that the document allows are accepted, others
// are refused, and answers have the documented statuses, headers and bodies. Skipped where Python or PyPI is not there.
import assert from 'node:assert/strict'
import { type ExecFileException, execFile } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { KEY_A, Vault } from './vault.ts'

const VERSION = '4.32.5'
const EXAMPLES = '60'
const SEED = '1'
const CACHE = join(import.meta.dirname, '../../node_modules/.cache/coffer-schemathesis')
const RUN_MS = 300_000

type Excused = {
  readonly operation: string
  readonly status: number
  readonly slug: string
  /** The sentence of the contract that a schema cannot say. */
  readonly contract: string
}

const REUSED = 'anything else under it → 422 `idempotency-key-reused`'
const RESOLVE = '`resolve` is a name for GET, PUT and history.'

/** The differences between document and node that remain. */
const EXCUSED: readonly Excused[] = [
  {
    operation: 'GET /secrets/{name}',
    status: 400,
    slug: 'invalid-request',
    contract: 'both → 400; `at` later than both the node’s clock and the last `valid_from` → 400',
  },
  {
    operation: 'POST /secrets/resolve',
    status: 400,
    slug: 'invalid-request',
    contract: '`at` later than both the node’s clock and the last `valid_from` → 400',
  },
  { operation: 'POST /secrets', status: 422, slug: 'idempotency-key-reused', contract: REUSED },
  { operation: 'PUT /secrets/{name}', status: 422, slug: 'idempotency-key-reused', contract: REUSED },
  {
    operation: 'PUT /secrets/{name}',
    status: 412,
    slug: 'version-conflict',
    contract: 'stale `If-Match` → 412',
  },
  {
    // Schemathesis sends `If-Match: 0`, whatever the pattern of the header says.
    operation: 'PUT /secrets/{name}',
    status: 400,
    slug: 'invalid-request',
    contract: '`If-Match` by RFC 9110: `*`, a list, strong comparison; anything else 400',
  },
  {
    operation: 'POST /tokenize',
    status: 422,
    slug: 'field-missing',
    contract: '`require`: each record must have a scalar other than null at each',
  },
  { operation: 'OPTIONS /secrets/resolve', status: 405, slug: 'method-not-allowed', contract: RESOLVE },
]

type Ran = { readonly code: number; readonly output: string }

function run(command: string, args: readonly string[], timeout = RUN_MS): Promise<Ran> {
  return new Promise((resolve) => {
    const options = {
      timeout,
      cwd: CACHE,
      maxBuffer: 64 * 1024 * 1024,
      env: { ...process.env, COLUMNS: '1000' },
    }
    execFile(command, [...args], options, (error: ExecFileException | null, stdout, stderr) => {
      const code = typeof error?.code === 'number' ? error.code : error ? -1 : 0
      resolve({ code, output: stdout + stderr })
    })
  })
}

/** The path of the program; undefined where it cannot be installed. */
async function schemathesis(): Promise<string | undefined> {
  const venv = join(CACHE, VERSION)
  const program = join(venv, 'bin/schemathesis')
  const done = join(venv, 'installed')
  // The directory may have been copied: a venv runs only at the path where the venv was made.
  if (existsSync(done) && (await run(program, ['--version'])).code === 0) return program
  mkdirSync(CACHE, { recursive: true })
  const python = await run('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 10))'])
  if (python.code !== 0) return undefined
  rmSync(venv, { recursive: true, force: true })
  const made = await run('python3', ['-m', 'venv', venv])
  if (made.code !== 0) return undefined
  const installed = await run(join(venv, 'bin/pip'), ['install', '-q', `schemathesis==${VERSION}`])
  if (installed.code !== 0) return undefined
  writeFileSync(done, '')
  return program
}

type Failure = {
  readonly operation: string
  readonly status: number
  readonly slug: string
  readonly text: string
}

/** Failures as the program prints them: sections of operations, each with its test cases. */
function failuresOf(output: string): Failure[] {
  const failures: Failure[] = []
  for (const section of output.split(/^_+ (?=[A-Z])/m).slice(1)) {
    const title = /^(.*?) _+$/m.exec(section)?.[1] ?? ''
    for (const text of section.split(/^\d+\. Test Case ID/m).slice(1)) {
      const status = Number(/^\[(\d+)\]/m.exec(text)?.[1])
      const slug = /"type":"\/problems\/([a-z-]+)"/.exec(text)?.[1] ?? ''
      failures.push({ operation: title === 'Stateful tests' ? lastCall(text) : title, status, slug, text })
    }
  }
  return failures
}

/** The operation of the last call of a sequence. */
function lastCall(text: string): string {
  const [, method, path] =
    [...text.matchAll(/^ *curl -X (\w+) .*?'?https?:\/\/[^/\s]+(\/[^\s'?]*)/gm)].at(-1) ?? []
  const template = /^\/secrets\/(?!resolve$)/.test(path)
    ? `/secrets/{name}${path.endsWith('/history') ? '/history' : ''}`
    : path
  return `${method} ${template}`
}

test('Schemathesis finds no difference between the document and the node but those that no schema can say', async (t) => {
  const program = await schemathesis()
  if (program === undefined) return t.skip('Schemathesis needs Python 3.10 or later, and PyPI once')
  await using vault = await Vault.start({ fields: ['ssn', 'contacts[].phone'] })
  const ran = await run(program, [
    ...['run', `${vault.node.url}/openapi.json`, '-H', `Authorization: Bearer ${KEY_A}`],
    ...['--checks', 'all', '--max-examples', EXAMPLES, '--seed', SEED, '--continue-on-failure'],
    ...['--generation-database', 'none', '--no-shrink', '--no-color'],
  ])
  assert.match(ran.output, /Tested: 1[6-9]/, ran.output.slice(-5000))
  const found = Number(/found (\d+) unique failures/.exec(ran.output)?.[1] ?? 0)
  const failures = failuresOf(ran.output)
  assert.equal(failures.length, found, ran.output)
  const others = failures.filter(
    ({ operation, status, slug }) =>
      !EXCUSED.some((each) => each.operation === operation && each.status === status && each.slug === slug),
  )
  assert.deepEqual(
    others.map(({ operation, text }) => `${operation}: ${text}`),
    [],
  )
  assert.equal(ran.code, found === 0 ? 0 : 1, ran.output)
})
