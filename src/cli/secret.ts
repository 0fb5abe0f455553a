// coffer secret: secrets with their versions. A value is read from a file or from stdin, never from an
// argument: those are seen by every user of the machine, and stay in the shell's history.
import { isUtf8 } from 'node:buffer'
import { createReadStream } from 'node:fs'
import { type Command, Option } from 'commander'
import { type Coffer, CofferError, type ErrorSlug } from '../client/index.ts'
import { OperatorError, UsageError } from '../errors.ts'
import { isSecretName, NAME_PART, SECRET_NAME_RULE, SECRET_VALUE_BYTES } from '../wire.ts'
import { ENVIRONMENT, explainAt, withClient } from './terminal/connect.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

type Json = { readonly json?: boolean }
type Write = Json & { readonly valueFrom: string; readonly ifVersion?: number }
type Get = Json & { readonly version?: number; readonly at?: string }

const VALUE_FROM = ['--value-from <file>', 'where the value is, - for stdin', '-'] as const

export function registerSecret(program: Command): void {
  const secret = program
    .command('secret')
    .description('secrets: create, update, get, their history, and a list')
    .addHelpText(
      'after',
      `
A secret has a name, as app/prod/DB_URL, and versions that never change. References in .env files,
coffer://app/prod/DB_URL, are what \`coffer env\` is about.

Example:
  $ printf %s "$DB_URL" | coffer secret create app/prod/DB_URL
  $ coffer secret get app/prod/DB_URL
  $ coffer secret update app/prod/DB_URL --value-from ./new-url
  $ coffer secret history app/prod/DB_URL`,
    )
  registerWrites(secret)
  registerReads(secret)
}

function registerWrites(secret: Command): void {
  secret
    .command('create')
    .description('store a secret that is not there yet')
    .argument('<name>', SECRET_NAME_RULE, nameOf)
    .option(...VALUE_FROM)
    .option('--json', 'print {"name","version","valid_from"}')
    .addHelpText(
      'after',
      `
The value is stored byte for byte, a line feed at its end too; it must be UTF-8 of at most 64 KiB.

Example:
  $ printf %s "$DB_URL" | coffer secret create app/prod/DB_URL
  $ coffer secret create app/prod/tls-key --value-from ./key.pem
${ENVIRONMENT}`,
    )
    .action(create)
  secret
    .command('update')
    .description('store the next version of a secret')
    .argument('<name>', SECRET_NAME_RULE, nameOf)
    .option(...VALUE_FROM)
    .option('--if-version <n>', 'only where that is the latest version', versionOf)
    .option('--json', 'print {"name","version","valid_from"}')
    .addHelpText(
      'after',
      `
The value is stored byte for byte, as by \`coffer secret create\`. The same value again is a version, too.

Example:
  $ coffer secret update app/prod/tls-key --value-from ./key.pem
  $ printf %s "$DB_URL" | coffer secret update app/prod/DB_URL --if-version 3
${ENVIRONMENT}`,
    )
    .action(update)
}

function registerReads(secret: Command): void {
  secret
    .command('get')
    .description('print the value of a secret')
    .argument('<name>', SECRET_NAME_RULE, nameOf)
    .option('--version <n>', 'that version (default: the latest)', versionOf)
    .addOption(new Option('--at <instant>', 'the version that was the latest then').conflicts('version'))
    .option('--json', 'print {"name","value","version","valid_from","valid_to"}')
    .addHelpText(
      'after',
      `
The value is printed as it is; only on a terminal a line feed is added.

Example:
  $ coffer secret get app/prod/tls-key > key.pem
  $ coffer secret get app/prod/DB_URL --version 2
  $ coffer secret get app/prod/DB_URL --at 2026-01-31T12:00:00Z
${ENVIRONMENT}`,
    )
    .action(get)
  secret
    .command('history')
    .description('the versions of a secret, oldest first, without their values')
    .argument('<name>', SECRET_NAME_RULE, nameOf)
    .option('--json', 'print {"name","versions":[{"version","valid_from","valid_to","key_id","request_id"}]}')
    .addHelpText('after', `\nExample:\n  $ coffer secret history app/prod/DB_URL\n${ENVIRONMENT}`)
    .action(history)
  secret
    .command('list')
    .description('the names of all secrets, or of those that begin so')
    .argument('[prefix]', 'what the names begin with', prefixOf, '')
    .option('--json', 'print {"names":[…]}')
    .addHelpText('after', `\nExample:\n  $ coffer secret list app/prod/\n${ENVIRONMENT}`)
    .action(list)
}

/** Throws OperatorError. */
function nameOf(text: string): string {
  if (!isSecretName(text)) throw new UsageError(`NAME must be ${SECRET_NAME_RULE}`)
  return text
}

/** Throws OperatorError. */
function prefixOf(text: string): string {
  if (!NAME_PART.test(text)) throw new UsageError('PREFIX has characters that are in no name')
  return text
}

/** Throws OperatorError. */
function versionOf(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new UsageError('a version is a number: 1, 2, …')
  return Number(text)
}

async function create(name: string, { valueFrom, json }: Write): Promise<void> {
  const written = await withClient(async (coffer) => {
    const value = await readValue(valueFrom)
    return orTell(coffer.createSecret(name, value), {
      'secret-exists': () => `${name} exists: \`coffer secret update ${name}\` stores its next version`,
    })
  })
  if (json) printJson(written)
  else print(`${name} is created`)
}

async function update(name: string, { valueFrom, ifVersion, json }: Write): Promise<void> {
  const written = await withClient(async (coffer) => {
    const value = await readValue(valueFrom)
    return orTell(coffer.updateSecret(name, value, ifVersion === undefined ? {} : { ifVersion }), {
      'not-found': () => `there is no secret ${name}: \`coffer secret create ${name}\` makes it`,
      'version-conflict': ({ members }) =>
        `${name} has version ${members.version} by now, and nothing was stored: look at it, then name that one`,
    })
  })
  if (json) printJson(written)
  else print(`${name} has version ${written.version}`)
}

async function get(name: string, { version, at, json }: Get): Promise<void> {
  const which = { ...(version === undefined ? {} : { version }), ...(at === undefined ? {} : { at }) }
  const secret = await withClient((coffer) =>
    orTell(coffer.secret(name, which), {
      'not-found': () =>
        version === undefined && at === undefined
          ? `there is no secret ${name}: \`coffer secret list\` shows those that there are`
          : `there is no such version of ${name}: \`coffer secret history ${name}\` shows those that there are`,
    }),
  )
  if (json) printJson(secret)
  else process.stdout.write(process.stdout.isTTY ? `${secret.value}\n` : secret.value)
}

async function history(name: string, { json }: Json): Promise<void> {
  const answer = await withClient((coffer) =>
    orTell(coffer.secretHistory(name), {
      'not-found': () => `there is no secret ${name}: \`coffer secret list\` shows those that there are`,
    }),
  )
  if (json) return printJson(answer)
  const rows = answer.versions.map(({ version, valid_from, valid_to, key_id, request_id }) => [
    String(version),
    valid_from,
    valid_to ?? 'latest',
    key_id,
    request_id,
  ])
  print(table([['version', 'valid from', 'valid to', 'key', 'request'], ...rows]))
}

async function list(prefix: string, { json }: Json): Promise<void> {
  await withClient(async (coffer) => {
    const names: string[] = []
    for await (const name of namesWith(coffer, prefix)) {
      if (json) names.push(name)
      else print(name)
    }
    if (json) printJson({ names })
  })
}

/** All names that begin so, in byte order. */
export async function* namesWith(coffer: Coffer, prefix: string): AsyncGenerator<string> {
  let after: string | null = ''
  while (after !== null) {
    const from = after === '' ? {} : { after }
    const page: Awaited<ReturnType<Coffer['secretNames']>> = await coffer.secretNames({
      prefix,
      limit: 1000,
      ...from,
    })
    yield* page.names
    after = page.next
  }
}

/**
 * What a refusal means for this command, where that is more than what it says. Throws OperatorError,
 * CofferError.
 */
async function orTell<T>(
  call: Promise<T>,
  meanings: { readonly [slug in ErrorSlug]?: (error: CofferError) => string },
): Promise<T> {
  try {
    return await call
  } catch (error) {
    const meaning = error instanceof CofferError ? meanings[error.slug] : undefined
    if (error instanceof CofferError && meaning) throw new OperatorError(meaning(error))
    throw explainAt(error)
  }
}

/** As it is, to the last byte. Throws OperatorError where it cannot be a value. */
async function readValue(from: string): Promise<string> {
  if (from === '-' && process.stdin.isTTY)
    note('the value, to its end (Ctrl-D, twice where no line feed is before it):')
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of from === '-' ? process.stdin : createReadStream(from)) {
    chunks.push(chunk)
    length += chunk.length
    if (length > SECRET_VALUE_BYTES)
      throw new OperatorError(
        `the value has more than ${SECRET_VALUE_BYTES} bytes: store it elsewhere, and here how to get it`,
      )
  }
  const value = Buffer.concat(chunks)
  if (!isUtf8(value)) throw new OperatorError('the value is not UTF-8: encode it, for example by base64')
  return value.toString('utf8')
}
