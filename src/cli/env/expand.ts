// coffer env expand: the references in a file replaced by the values of their secrets.
import { CofferError } from '../../client/index.ts'
import { type Expanded, expand, READERS, type Reader } from '../../env/expand.ts'
import { ENV_FILE_BYTES, type EnvFile, readEnvFile, throwFaults } from '../../env/file.ts'
import { remarkText } from '../../env/remarks.ts'
import { isReference } from '../../env/replace.ts'
import { isShName } from '../../env/sh.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { isSameFile } from '../../mounts.ts'
import { REFS_A_REQUEST } from '../../wire.ts'
import { explainAt, withClient } from '../terminal/connect.ts'
import { readInput } from '../terminal/input.ts'
import { checkOutput, WITH_VALUES, writeOutput } from '../terminal/output.ts'
import { note } from '../terminal/terminal.ts'

/** `at`: an instant (RFC 3339) for references without a version. */
export type ResolveOptions = { readonly at?: string }

type Options = ResolveOptions & {
  readonly out?: string
  readonly for: Reader
  readonly strict?: boolean
  readonly force?: boolean
}

export async function expandFile(file: string, options: Options): Promise<void> {
  const { out = '-', for: reader, strict = false, force = false } = options
  if (isSameFile(out, file))
    throw new UsageError(`${out} is the file with the references, which would be lost`, {
      hint: 'name another file',
    })
  checkOutput(out, { file, force })
  const [{ env, resolved }] = await resolveFiles([file], options)
  const { text, misread } = expand(env, resolved, reader)
  tellMisread(file, misread, strict)
  await writeOutput(out, text, WITH_VALUES)
}

/** Throws OperatorError if `strict`. */
function tellMisread(file: string, misread: Expanded['misread'], strict: boolean): void {
  const told = READERS.flatMap((reader) => {
    const entries = reader === 'node' ? [] : misread[reader]
    if (entries.length === 0) return []
    const keys = entries.map(({ key }) => key).join(', ')
    const isWritable = reader !== 'sh' || entries.every(({ key }) => isShName(key))
    const text =
      `no quotes let ${reader} read as Node and dotenv do: ${keys}; ` +
      (isWritable
        ? `\`coffer env expand --for ${reader}\` writes for ${reader}`
        : 'sh has no variables of some of these names: rename the keys, or run `coffer env run`')
    return [remarkText(file, { text, lines: entries.map(({ line }) => line) })]
  })
  if (strict && told.length > 0)
    throw new OperatorError(['nothing was written, because of --strict:', ...told].join('\n'))
  for (const text of told) note(text)
}

type ResolvedFile = {
  readonly env: EnvFile
  /** The value of every reference in the file, by reference. */
  readonly resolved: ReadonlyMap<string, string>
}

/**
 * Resolves all references of the files by a single request; without references no node is asked. Throws
 * OperatorError with all faulty lines and all missing references of a file; CofferError.
 */
export async function resolveFiles(
  files: readonly string[],
  { at }: ResolveOptions,
): Promise<ResolvedFile[]> {
  const envs: EnvFile[] = []
  for (const file of files) envs.push(readEnvFile(await readEnv(file), file))
  throwFaults(envs.map(({ faults }) => faults))
  for (const env of envs) tellGlued(env)
  const refs = [
    ...new Set(envs.flatMap(({ entries }) => entries.filter(isReference).map(({ value }) => value))),
  ]
  if (refs.length === 0) return envs.map((env) => ({ env, resolved: new Map() }))
  if (refs.length > REFS_A_REQUEST)
    throw new OperatorError(
      `${files.join(', ')}: ${refs.length} references, and at most ${REFS_A_REQUEST} are resolved at once`,
      { hint: 'use fewer references at once' },
    )
  try {
    const values = await withClient((coffer) => coffer.resolveSecrets(refs, at === undefined ? {} : { at }))
    const resolved = new Map(refs.map((ref, i) => [ref, values[i]]))
    return envs.map((env) => ({ env, resolved }))
  } catch (error) {
    if (error instanceof CofferError && error.slug === 'refs-not-found')
      refuseMissing(envs, error.members.missing, at)
    throw explainAt(error)
  }
}

export function readEnv(file: string): Promise<Buffer> {
  return readInput(file, { most: ENV_FILE_BYTES, hint: 'name a .env file' })
}

/** Tells the lines with an end that is a comment to Node and dotenv, and maybe a part of the value. */
function tellGlued({ file, entries }: EnvFile): void {
  const lines = entries.filter(({ glued }) => glued).map(({ line }) => line)
  if (lines.length === 0) return
  const text = 'Node and dotenv end a value at a # without a blank before it: quote the value if # is in it'
  note(remarkText(file, { lines, text }))
}

/** Throws OperatorError with the lines of the missing references. */
function refuseMissing(envs: readonly EnvFile[], missing: unknown, at: string | undefined): void {
  const names = new Set<unknown>(Array.isArray(missing) ? missing : [])
  const when = at === undefined ? '' : ` at ${at}`
  for (const { entries, faults } of envs) {
    for (const { key, line, value } of entries.filter((entry) => names.has(entry.value)))
      faults.add(
        line,
        `${key} refers to ${value}, which does not exist${when}: create the secret, or correct the reference`,
      )
  }
  throwFaults(envs.map(({ faults }) => faults))
}
