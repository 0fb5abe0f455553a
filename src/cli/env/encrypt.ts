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
import { type Remark, remarksOn, remarkText } from '../../env/remarks.ts'
import { type NewSecret, replaceValues } from '../../env/replace.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { checkReplaceable, FileError, replaceFile } from '../../files.ts'
import { isSameFile } from '../../mounts.ts'
import { isSecretName, REFERENCE_SCHEME } from '../../wire.ts'
import { namesWith } from '../secret.ts'
import { withClient } from '../terminal/connect.ts'
import { checkOutput, isStandardOutput, isStream, writeOutput } from '../terminal/output.ts'
import { counted, note, print } from '../terminal/terminal.ts'
import { readEnv } from './expand.ts'

type Options = {
  readonly prefix: string
  readonly out?: string
  readonly strict?: boolean
  readonly force?: boolean
  readonly json?: boolean
}

export async function encryptFile(file: string, options: Options): Promise<void> {
  const { prefix, out, strict = false, force = false, json } = options
  if (!isSecretName(`${prefix}KEY`))
    throw new UsageError('--prefix is not a valid start of secret names', {
      hint: 'use a prefix such as app/prod/',
    })
  if (file === '-')
    throw new UsageError('an interrupted run is completed with its file, and stdin is none', {
      hint: 'name a file',
    })
  if (out !== undefined) checkOutput(out, { file, force })
  const bytes = await readEnv(file)
  const env = readEnvFile(bytes, file)
  const { secrets, text } = replaceValues(env, prefix)
  const remarks = remarksOn(env, secrets)
  if (strict) refuseRemarks(file, remarks)
  const target = targetOf(file, out)
  const changes = out !== undefined || secrets.length > 0
  if (changes) target.check()
  const journal = new EncryptJournal(target.beside)
  if (secrets.length > 0) await withClient((coffer) => create(coffer, { file, prefix, secrets }, journal))
  if (changes) await writeAfter(secrets, () => target.write(text, bytes))
  journal.end()
  for (const remark of remarks) note(remarkText(file, remark))
  const done = secrets.length === 0 ? 'nothing to encrypt' : `${counted(secrets.length, 'value')} encrypted`
  const result = { file: out ?? file, encrypted: secrets.length, secrets: secrets.map(({ name }) => name) }
  const say = out !== undefined && isStandardOutput(out) ? note : print
  say(json ? JSON.stringify(result) : `${result.file}: ${done}`)
}

/** Throws OperatorError. */
function refuseRemarks(file: string, remarks: readonly Remark[]): void {
  const faults = remarks.filter(({ strict }) => strict)
  if (faults.length === 0) return
  throw new OperatorError(
    ['nothing was done, because of --strict:', ...faults.map((each) => remarkText(file, each))].join('\n'),
  )
}

/** Throws OperatorError where the secrets exist and the text cannot be written. */
async function writeAfter(secrets: readonly NewSecret[], write: () => Promise<void>): Promise<void> {
  try {
    await write()
  } catch (error) {
    if (!(error instanceof FileError) || secrets.length === 0) throw error
    throw new OperatorError(
      `${error.message}\nThe secrets are created. Run the same command again once that is mended: it ` +
        'completes the work',
      { cause: error },
    )
  }
}

type Target = {
  /** Where the journal may be. */
  readonly beside: readonly [string, ...string[]]
  /** Throws FileError where the new text could not be written. Changes nothing. */
  check(): void
  /** `read`: the bytes of FILE of which the text was made. Throws FileError, OperatorError. */
  write(text: string, read: Buffer): Promise<void>
}

/** FILE itself, another file, or a stream. */
function targetOf(file: string, out: string | undefined): Target {
  if (out === undefined || isSameFile(out, file))
    return {
      beside: [file],
      check: () => checkInPlace(file),
      write: async (text, read) => replaceFile(file, text, { check: () => checkUnchanged(file, read) }),
    }
  const like = statSync(file)
  const isFile = !isStandardOutput(out) && !isStream(out)
  return {
    beside: !isFile ? [file] : like.isFile() ? [file, out] : [out],
    check: () => {
      if (isFile) checkReplaceable(out, { like })
    },
    write: (text) => writeOutput(out, text, { like }),
  }
}

/** Throws FileError with the ways out. */
function checkInPlace(file: string): void {
  try {
    checkReplaceable(file)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    const another = 'write another file with -o'
    throw new FileError(error.message, {
      cause: error,
      hint: error.hint === undefined ? another : `${error.hint}, or ${another}`,
    })
  }
}

/**
 * Throws OperatorError if the file has changed since it was read. A change between this check and the rename
 * goes unnoticed; an editor holds a file for longer.
 */
function checkUnchanged(file: string, bytes: Buffer): void {
  if (statSync(file).size === bytes.length && readFileSync(file).equals(bytes)) return
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
  // Key and right are checked before the Idempotency-Key: 401 and 403 say nothing about the interrupted run.
  return !resumed || (slug !== 'unauthorized' && slug !== 'forbidden')
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
