// coffer env encrypt: the values of a file become secrets, and references stand in their places.
//
// An interrupted run is finished by running the same command again, wherever it was interrupted: the
// request's Idempotency-Key is durable in a journal before anything is created, the secrets are created all
// or none by one request, and the file is replaced in one step. The journal goes when the file is durable, or
// when it is certain that nothing was created.
import { readFileSync, statSync } from 'node:fs'
import { type Coffer, CofferError } from '../../client/index.ts'
import { readEnvFile } from '../../env/file.ts'
import { type Begun, Journal } from '../../env/journal.ts'
import { type Planned, toReferences } from '../../env/replace.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { checkReplaceable, isSameFile, replaceFile } from '../../files.ts'
import { isSecretName, REFERENCE_SCHEME } from '../../wire.ts'
import { namesWith } from '../secret.ts'
import { withClient } from '../terminal/connect.ts'
import { counted, print, printJson } from '../terminal/terminal.ts'

type Options = { readonly prefix: string; readonly out?: string; readonly json?: boolean }

export async function encryptFile(file: string, { prefix, out, json }: Options): Promise<void> {
  if (!isSecretName(`${prefix}KEY`))
    throw new UsageError(
      '--prefix must be what names of secrets can begin with, as app/prod/: this one is not',
    )
  const bytes = readFileSync(file)
  const like = statSync(file)
  const { secrets, text } = toReferences(readEnvFile(bytes, file), prefix)
  const journal = new Journal(file)
  const inPlace = out === undefined || isSameFile(out, file)
  const options = inPlace ? {} : { like, mode: like.mode }
  const target = inPlace ? file : out
  const changes = !inPlace || secrets.length > 0
  if (changes) checkReplaceable(target, options)
  if (secrets.length > 0) await withClient((coffer) => create(coffer, { file, prefix, secrets }, journal))
  const check = inPlace ? (): void => checkUnchanged(file, bytes) : undefined
  if (changes) replaceFile(target, text, { ...options, ...(check && { check }) })
  journal.end()
  const done =
    secrets.length === 0 ? 'there is nothing to encrypt' : `${counted(secrets.length, 'value')} encrypted`
  const result = { file: out ?? file, encrypted: secrets.length, secrets: secrets.map(({ name }) => name) }
  if (json) printJson(result)
  else print(`${result.file}: ${done}`)
}

/**
 * Between two instructions it can change all the same; in an editor it takes longer. Throws OperatorError.
 */
function checkUnchanged(file: string, bytes: Buffer): void {
  if (readFileSync(file).equals(bytes)) return
  throw new OperatorError(
    `${file} was changed by somebody else meanwhile, so it stays as it is now. Run the command again: it tells what to do`,
  )
}

type Asked = { readonly file: string; readonly prefix: string; readonly secrets: readonly Planned[] }

/** When it returns, all secrets are there. Throws OperatorError, CofferError. */
async function create(coffer: Coffer, asked: Asked, journal: Journal): Promise<void> {
  const { file, prefix, secrets } = asked
  const begun = journal.begin(prefix)
  try {
    await coffer.createSecrets(
      secrets.map(({ name, value }) => ({ name, value })),
      { idempotencyKey: begun.key },
    )
  } catch (error) {
    if (!(error instanceof CofferError)) throw error
    if (!isDefinite(error, begun))
      throw new OperatorError(
        `${error.message}\n${file} is as it was. Run the same command again: that is safe, whatever has become of this request`,
      )
    const refusal = await explain(coffer, error, asked)
    journal.end()
    throw refusal
  }
}

/** Certainly nothing was created under this key with this body. */
function isDefinite({ slug, status }: CofferError, { resumed }: Begun): boolean {
  if (status < 400 || status >= 500 || slug === 'unexpected-answer' || slug === 'idempotency-in-progress')
    return false
  // Who asks is judged before the key: this says nothing of the run that was interrupted.
  return slug !== 'unauthorized' || !resumed
}

async function explain(coffer: Coffer, error: CofferError, { file, prefix, secrets }: Asked): Promise<Error> {
  const places = (names: ReadonlySet<unknown>): string[] =>
    secrets
      .filter(({ name }) => names.has(name))
      .map(({ name, entry }) => `${file}:${entry.line}: ${entry.key}=${REFERENCE_SCHEME}${name}`)
  if (error.slug === 'secret-exists') {
    const names = Array.isArray(error.members.names) ? error.members.names : []
    return new OperatorError(
      [
        `nothing was created, and ${file} is as it was, since these secrets exist already:`,
        ...places(new Set(names)),
        'Write these references into the file, where they are what is meant, or take another --prefix; `coffer secret update NAME` changes a secret.',
      ].join('\n'),
    )
  }
  if (error.slug !== 'idempotency-key-reused') return error
  const existing = places(new Set(await Array.fromAsync(namesWith(coffer, prefix))))
  return new OperatorError(
    [
      `${file} has changed since a run was interrupted that created its secrets, and it is as it was before this run.`,
      ...(existing.length === 0 ? [] : ['These exist, with the values of then:', ...existing]),
      'Write these references into the file, change what has another value now with `coffer secret update NAME`, and run the command again for the rest.',
    ].join('\n'),
  )
}
