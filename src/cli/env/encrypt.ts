// coffer env encrypt: the values of a file become secrets, and references take their places in the file.
//
// After an interruption the same command completes the work, wherever the interruption was: the request's
// Idempotency-Key is durable in a journal before any secret is created, a single request creates all secrets
// or none, and the file is replaced in a single step. The journal is removed once the file is durable, or
// once certainly no secret was created.
import { readFileSync, statSync } from 'node:fs'
import { type Coffer, CofferError } from '../../client/index.ts'
import { readEnvFile } from '../../env/file.ts'
import { EncryptJournal } from '../../env/journal.ts'
import { type NewSecret, replaceValues } from '../../env/replace.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { checkReplaceable, isSameFile, replaceFile } from '../../files.ts'
import { isSecretName, REFERENCE_SCHEME } from '../../wire.ts'
import { namesWith } from '../secret.ts'
import { withClient } from '../terminal/connect.ts'
import { counted, print, printJson } from '../terminal/terminal.ts'

type Options = { readonly prefix: string; readonly out?: string; readonly json?: boolean }

export async function encryptFile(file: string, { prefix, out, json }: Options): Promise<void> {
  if (!isSecretName(`${prefix}KEY`))
    throw new UsageError('--prefix is not a valid start of secret names', {
      hint: 'use a prefix such as app/prod/',
    })
  const bytes = readFileSync(file)
  const like = statSync(file)
  const { secrets, text } = replaceValues(readEnvFile(bytes, file), prefix)
  const journal = new EncryptJournal(file)
  const inPlace = out === undefined || isSameFile(out, file)
  const options = inPlace ? {} : { like, mode: like.mode }
  const target = inPlace ? file : out
  const changes = !inPlace || secrets.length > 0
  if (changes) checkReplaceable(target, options)
  if (secrets.length > 0) await withClient((coffer) => create(coffer, { file, prefix, secrets }, journal))
  const check = inPlace ? (): void => checkUnchanged(file, bytes) : undefined
  if (changes) replaceFile(target, text, { ...options, ...(check && { check }) })
  journal.end()
  const done = secrets.length === 0 ? 'nothing to encrypt' : `${counted(secrets.length, 'value')} encrypted`
  const result = { file: out ?? file, encrypted: secrets.length, secrets: secrets.map(({ name }) => name) }
  if (json) printJson(result)
  else print(`${result.file}: ${done}`)
}

/**
 * Throws OperatorError if the file has changed since it was read. A change between this check and the rename
 * goes unnoticed; an editor holds a file for longer.
 */
function checkUnchanged(file: string, bytes: Buffer): void {
  if (readFileSync(file).equals(bytes)) return
  throw new OperatorError(`${file} was changed by another program meanwhile, and is left as it is now`, {
    hint: 'run the command again; it reports what to do',
  })
}

type EncryptRequest = {
  readonly file: string
  readonly prefix: string
  readonly secrets: readonly NewSecret[]
}

/** Creates all secrets. Throws OperatorError, CofferError. */
async function create(coffer: Coffer, request: EncryptRequest, journal: EncryptJournal): Promise<void> {
  const { file, prefix, secrets } = request
  const { idempotencyKey, resumed } = journal.begin(prefix)
  try {
    await coffer.createSecrets(
      secrets.map(({ name, value }) => ({ name, value })),
      { idempotencyKey },
    )
  } catch (error) {
    if (!(error instanceof CofferError)) throw error
    if (!isRefused(error, resumed))
      throw new OperatorError(
        `${error.message}\n${file} is unchanged. Run the same command again: that is safe, ` +
          'whether or not the node has executed this request',
      )
    const refusal = await explainRefusal(coffer, error, request)
    journal.end()
    throw refusal
  }
}

/** Whether certainly no request with the Idempotency-Key and body has created anything. */
function isRefused({ slug, status }: CofferError, resumed: boolean): boolean {
  if (status < 400 || status >= 500 || slug === 'unexpected-answer' || slug === 'idempotency-in-progress')
    return false
  // The API key is checked before the Idempotency-Key: 401 says nothing about the interrupted run.
  return slug !== 'unauthorized' || !resumed
}

async function explainRefusal(coffer: Coffer, error: CofferError, request: EncryptRequest): Promise<Error> {
  if (error.slug === 'secret-exists') return secretsExist(error, request)
  if (error.slug !== 'idempotency-key-reused') return error
  const { file, prefix } = request
  const existing = entriesWith(request, new Set(await Array.fromAsync(namesWith(coffer, prefix))))
  return new OperatorError(
    [
      `${file} has changed since an interrupted run that created its secrets; this run has not changed it.`,
      ...(existing.length === 0 ? [] : ['These secrets exist, with the values of that run:', ...existing]),
      'Write these references into the file, store changed values with `coffer secret update NAME`, ' +
        'and run the command again for the rest.',
    ].join('\n'),
  )
}

function secretsExist({ members }: CofferError, request: EncryptRequest): OperatorError {
  const names = Array.isArray(members.names) ? members.names : []
  return new OperatorError(
    [
      `nothing was created, and ${request.file} is unchanged, since these secrets exist already:`,
      ...entriesWith(request, new Set(names)),
      'Write these references into the file, if the secrets are meant, or use another --prefix; ' +
        '`coffer secret update NAME` changes a secret.',
    ].join('\n'),
  )
}

/** The entries with secrets of the given names, as references, a line each. */
function entriesWith({ file, secrets }: EncryptRequest, names: ReadonlySet<unknown>): string[] {
  return secrets
    .filter(({ name }) => names.has(name))
    .map(({ name, entry }) => `${file}:${entry.line}: ${entry.key}=${REFERENCE_SCHEME}${name}`)
}
