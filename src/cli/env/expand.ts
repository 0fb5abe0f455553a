// coffer env expand: the references of a file replaced by the values of their secrets.
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { CofferError } from '../../client/index.ts'
import { type EnvFile, readEnvFile } from '../../env/file.ts'
import { isReference, toValues } from '../../env/replace.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { isSameFile } from '../../files.ts'
import { REFS_A_REQUEST } from '../../wire.ts'
import { explainAt, withClient } from '../terminal/connect.ts'

/** `at` is an instant (RFC 3339), for the references without a version. */
export type At = { readonly at?: string }

export async function expandFile(file: string, options: At & { readonly out?: string }): Promise<void> {
  const { out } = options
  if (out !== undefined && isSameFile(out, file))
    throw new UsageError(`${out} is the file with the references, which would be lost: name another one`)
  const { env, resolved } = await resolveFile(file, options)
  const text = toValues(env, resolved)
  if (out === undefined) process.stdout.write(text)
  else writePrivately(out, text)
}

/** No temporary file, where values could be left behind. */
function writePrivately(path: string, text: string): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600)
  try {
    if (fstatSync(file).isFile()) {
      // One that was there may be open to others; this is before it has a value.
      fchmodSync(file, 0o600)
      ftruncateSync(file)
    }
    writeFileSync(file, text)
  } finally {
    closeSync(file)
  }
}

type ResolvedFile = {
  readonly env: EnvFile
  /** By reference; all that are in the file. */
  readonly resolved: ReadonlyMap<string, string>
}

/**
 * No node is asked where there are no references. Throws OperatorError where anything is wrong with the file,
 * or a reference is not found, with all lines of all.
 */
export async function resolveFile(file: string, { at }: At): Promise<ResolvedFile> {
  const env = readEnvFile(readFileSync(file), file)
  env.faults.check()
  const refs = [...new Set(env.entries.filter(isReference).map(({ value }) => value))]
  if (refs.length === 0) return { env, resolved: new Map() }
  if (refs.length > REFS_A_REQUEST)
    throw new OperatorError(
      `${file} has ${refs.length} references, of ${REFS_A_REQUEST} that can be resolved at once: make two files of it`,
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

/** Throws OperatorError with the lines. */
function checkMissing({ entries, faults }: EnvFile, missing: unknown, at: string | undefined): void {
  const names = new Set<unknown>(Array.isArray(missing) ? missing : [])
  const when = at === undefined ? '' : ` at ${at}`
  for (const { key, line, value } of entries) {
    if (names.has(value))
      faults.add(
        line,
        `${key} refers to ${value}, which is not there${when}: create it, or correct the reference`,
      )
  }
  faults.check()
}
