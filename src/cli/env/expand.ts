// coffer env expand: the references in a file replaced by the values of their secrets.
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { CofferError } from '../../client/index.ts'
import { type EnvFile, readEnvFile } from '../../env/file.ts'
import { isReference, replaceReferences } from '../../env/replace.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { isSameFile, replaceFile } from '../../files.ts'
import { REFS_A_REQUEST } from '../../wire.ts'
import { explainAt, withClient } from '../terminal/connect.ts'

/** `at`: an instant (RFC 3339) for references without a version. */
export type ExpandOptions = { readonly at?: string }

export async function expandFile(
  file: string,
  options: ExpandOptions & { readonly out?: string },
): Promise<void> {
  const { out } = options
  if (out !== undefined && isSameFile(out, file))
    throw new UsageError(`${out} is the file with the references, which would be lost`, {
      hint: 'name another file',
    })
  const { env, resolved } = await resolveFile(file, options)
  const text = replaceReferences(env, resolved)
  if (out === undefined) process.stdout.write(text)
  else writePrivately(out, text)
}

/** Replaces a file, with mode 0600; writes into a pipe or a device. Throws FileError. */
function writePrivately(path: string, text: string): void {
  const isFile = statSync(path, { throwIfNoEntry: false })?.isFile() ?? true
  if (isFile) replaceFile(path, text, { mode: 0o600 })
  else writeFileSync(path, text)
}

type ResolvedFile = {
  readonly env: EnvFile
  /** The value of every reference in the file, by reference. */
  readonly resolved: ReadonlyMap<string, string>
}

/**
 * Resolves all references of the file by a single request; without references no node is asked. Throws
 * OperatorError with all faulty lines and all missing references; CofferError.
 */
export async function resolveFile(file: string, { at }: ExpandOptions): Promise<ResolvedFile> {
  const env = readEnvFile(readFileSync(file), file)
  env.faults.throwIfAny()
  const refs = [...new Set(env.entries.filter(isReference).map(({ value }) => value))]
  if (refs.length === 0) return { env, resolved: new Map() }
  if (refs.length > REFS_A_REQUEST)
    throw new OperatorError(
      `${file} has ${refs.length} references, and at most ${REFS_A_REQUEST} are resolved at once`,
      { hint: 'split the file in two' },
    )
  try {
    const values = await withClient((coffer) => coffer.resolveSecrets(refs, at === undefined ? {} : { at }))
    return { env, resolved: new Map(refs.map((ref, i) => [ref, values[i]])) }
  } catch (error) {
    if (error instanceof CofferError && error.slug === 'refs-not-found')
      checkMissing(env, error.members.missing, at)
    throw explainAt(error)
  }
}

/** Throws OperatorError with the lines of the missing references. */
function checkMissing({ entries, faults }: EnvFile, missing: unknown, at: string | undefined): void {
  const names = new Set<unknown>(Array.isArray(missing) ? missing : [])
  const when = at === undefined ? '' : ` at ${at}`
  for (const { key, line, value } of entries) {
    if (names.has(value))
      faults.add(
        line,
        `${key} refers to ${value}, which does not exist${when}: create the secret, or correct the reference`,
      )
  }
  faults.throwIfAny()
}
