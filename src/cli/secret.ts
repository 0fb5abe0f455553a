// coffer secret: secrets with their versions. A value is read from a file or from stdin, never from an
// argument: every user of the machine sees arguments, and the shell's history keeps them.
import { isUtf8 } from 'node:buffer'
import { type Command, Option } from 'commander'
import { type Coffer, CofferError, type ErrorSlug } from '../client/index.ts'
import { OperatorError, UsageError } from '../errors.ts'
import {
  isSecretName,
  NAME_PART,
  parseReference,
  type Reference,
  SECRET_NAME_RULE,
  SECRET_VALUE_BYTES,
} from '../wire.ts'
import { ENVIRONMENT, explainAt, withClient } from './terminal/connect.ts'
import { readInput } from './terminal/input.ts'
import { atOf } from './terminal/instant.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

type Json = { readonly json?: boolean }
type WriteOptions = Json & { readonly valueFrom: string; readonly ifVersion?: number }
type GetOptions = Json & { readonly version?: number; readonly at?: string }

const VALUE_FROM = ['--value-from <file>', 'a file with the value; - for stdin', '-'] as const

export function registerSecret(program: Command): void {
  const secret = program
    .command('secret')
    .description('create, update, get and list secrets, and show their history')
    .addHelpText(
      'after',
      `
A secret has a name, such as app/prod/DB_URL, and versions that never change. For references in
.env files, such as coffer://app/prod/DB_URL, see \`coffer env --help\`.

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
    .description('store a new secret')
    .argument('<name>', SECRET_NAME_RULE, nameOf)
    .option(...VALUE_FROM)
    .option('--json', 'print {"name","version","valid_from"}')
    .addHelpText(
      'after',
      `
The value is stored byte for byte, including a line feed at its end; it must be UTF-8, at most 64 KiB.

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
    .option('--if-version <n>', 'fail unless <n> is the latest version', versionOf)
    .option('--json', 'print {"name","version","valid_from"}')
    .addHelpText(
      'after',
      `
The value is stored byte for byte, as by \`coffer secret create\`. An equal value makes a new version, too.

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
    .argument('<name>', `${SECRET_NAME_RULE}, or a reference coffer://NAME[@VERSION]`, referenceOf)
    .option('--version <n>', 'the version (default: the latest)', versionOf)
    .addOption(
      new Option('--at <instant>', 'the version that was the latest at that instant')
        .argParser(atOf)
        .conflicts('version'),
    )
    .option('--json', 'print {"name","value","version","valid_from","valid_to"}')
    .addHelpText(
      'after',
      `
The value is printed unchanged; only on a terminal a line feed is added.

Example:
  $ coffer secret get app/prod/tls-key > key.pem
  $ coffer secret get app/prod/DB_URL --version 2
  $ coffer secret get app/prod/DB_URL --at 2026-01-31T12:00:00Z
${ENVIRONMENT}`,
    )
    .action(get)
  secret
    .command('history')
    .description('list the versions of a secret, oldest first, without their values')
    .argument('<name>', SECRET_NAME_RULE, nameOf)
    .option('--json', 'print {"name","versions":[{"version","valid_from","valid_to","key_id","request_id"}]}')
    .addHelpText('after', `\nExample:\n  $ coffer secret history app/prod/DB_URL\n${ENVIRONMENT}`)
    .action(history)
  secret
    .command('list')
    .description('list the names of all secrets, or of those with a prefix')
    .argument('[prefix]', 'what the names begin with', prefixOf, '')
    .option('--json', 'print {"names":[…]}')
    .addHelpText('after', `\nExample:\n  $ coffer secret list app/prod/\n${ENVIRONMENT}`)
    .action(list)
}

/** A name, or a reference without a version. Throws UsageError. */
function nameOf(text: string): string {
  const { name, version } = referenceOf(text)
  if (version === undefined) return name
  throw new UsageError(`${text} is one version of a secret`, { hint: `name the secret: ${name}` })
}

/** A name, or a reference. Throws UsageError. */
function referenceOf(text: string): Reference {
  const reference = isSecretName(text) ? { name: text, version: undefined } : parseReference(text)
  if (!reference) throw new UsageError(`NAME must be ${SECRET_NAME_RULE}`)
  return reference
}

/** Throws UsageError. */
function prefixOf(text: string): string {
  if (!NAME_PART.test(text)) throw new UsageError('PREFIX has a character that secret names cannot have')
  return text
}

/** Throws UsageError. */
function versionOf(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new UsageError('a version must be a number, such as 2')
  return Number(text)
}

async function create(name: string, { valueFrom, json }: WriteOptions): Promise<void> {
  const written = await withClient(async (coffer) => {
    const value = await readValue(valueFrom)
    return explainRefusal(coffer.createSecret(name, value), {
      'secret-exists': () => [
        `${name} exists already`,
        `\`coffer secret update ${name}\` stores its next version`,
      ],
    })
  })
  if (json) printJson(written)
  else print(`${name} is created`)
}

async function update(name: string, { valueFrom, ifVersion, json }: WriteOptions): Promise<void> {
  const written = await withClient(async (coffer) => {
    const value = await readValue(valueFrom)
    return explainRefusal(coffer.updateSecret(name, value, ifVersion === undefined ? {} : { ifVersion }), {
      'not-found': () => [`there is no secret ${name}`, `\`coffer secret create ${name}\` creates it`],
      'version-conflict': ({ members }) => [
        `${name} has version ${members.version} by now, and nothing was stored`,
        `read that version, then repeat the command with --if-version ${members.version}`,
      ],
    })
  })
  if (json) printJson(written)
  else print(`${name} has version ${written.version}`)
}

async function get({ name, version: pinned }: Reference, options: GetOptions): Promise<void> {
  const { version = pinned, at, json } = options
  if (pinned !== undefined && (version !== pinned || at !== undefined))
    throw new UsageError(`coffer://${name}@${pinned} is one version already`, {
      hint: 'leave out --version and --at',
    })
  const selector = { ...(version === undefined ? {} : { version }), ...(at === undefined ? {} : { at }) }
  const secret = await withClient((coffer) =>
    explainRefusal(coffer.secret(name, selector), {
      'not-found': () =>
        version === undefined && at === undefined
          ? [`there is no secret ${name}`, '`coffer secret list` shows the names']
          : [`there is no such version of ${name}`, `\`coffer secret history ${name}\` shows the versions`],
    }),
  )
  if (json) printJson(secret)
  else process.stdout.write(process.stdout.isTTY ? `${secret.value}\n` : secret.value)
}

async function history(name: string, { json }: Json): Promise<void> {
  const answer = await withClient((coffer) =>
    explainRefusal(coffer.secretHistory(name), {
      'not-found': () => [`there is no secret ${name}`, '`coffer secret list` shows the names'],
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

/** All names with the prefix, in byte order. */
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
 * Awaits a call; turns a refusal into [message, hint] by its slug. Throws OperatorError, UsageError,
 * CofferError.
 */
async function explainRefusal<T>(
  call: Promise<T>,
  meanings: {
    readonly [slug in ErrorSlug]?: (error: CofferError) => readonly [message: string, hint: string]
  },
): Promise<T> {
  try {
    return await call
  } catch (error) {
    const meaning = error instanceof CofferError ? meanings[error.slug] : undefined
    if (error instanceof CofferError && meaning) {
      const [message, hint] = meaning(error)
      throw new OperatorError(message, { hint })
    }
    throw explainAt(error)
  }
}

/** The value, byte for byte. Throws OperatorError if it is too long or not UTF-8. */
async function readValue(from: string): Promise<string> {
  if (from === '-' && process.stdin.isTTY)
    note('Type the value, then press Ctrl-D (twice if the last line is not empty):')
  const hint = 'store the value elsewhere, and its address here'
  const value = await readInput(from, { most: SECRET_VALUE_BYTES, hint })
  if (!isUtf8(value))
    throw new OperatorError('the value is not UTF-8', { hint: 'encode the value, for example as base64' })
  return value.toString('utf8')
}
