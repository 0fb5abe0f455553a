// Where the new content of a file goes: a file, named when the content is whole, or a stream.
import { closeSync, existsSync, openSync, statSync } from 'node:fs'
import { WriteQueue } from '../../appending.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { checkName, Replacement, type ReplaceOptions, replaceFile } from '../../files.ts'
import { isSameFile } from '../../mounts.ts'

type Output = {
  /** Bytes are written in the order of the calls, and must not change meanwhile. */
  write(bytes: Uint8Array): Promise<void>
  /** Durable under its name. Throws FileError. */
  commit(): Promise<void>
  /** After `commit` nothing happens. */
  discard(): void
}

const STANDARD_OUTPUT: readonly string[] = ['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1']

export function isStandardOutput(out: string): boolean {
  return STANDARD_OUTPUT.includes(out)
}

type OutputOptions = { readonly file: string; readonly force: boolean }

/**
 * Throws FileError where the output has no name, OperatorError where the output exists and is not to be
 * replaced. Changes nothing.
 */
export function checkOutput(out: string, { file, force }: OutputOptions): void {
  if (isStandardOutput(out) || isStream(out)) return
  checkName(out)
  if (force || !existsSync(out)) return
  if (isSameFile(out, file))
    throw new OperatorError(`${out} is the file itself`, {
      hint: 'name another file with -o, or replace the file with --force',
    })
  throw new OperatorError(`${out} exists already`, {
    hint: 'name another file with -o, or overwrite the file with --force',
  })
}

/** Of a file with values: for the owner of the file alone. */
export const WITH_VALUES: ReplaceOptions = { mode: 0o600 }

/** `options` are for a regular file. Throws FileError, UsageError. */
export function openOutput(out: string, options: ReplaceOptions): Output {
  if (isStandardOutput(out)) return standardOutput
  if (isStream(out)) return streamOf(openSync(out, 'w'))
  const replacement = Replacement.open(out, options)
  return {
    write: (bytes) => replacement.append(bytes),
    commit: () => replacement.commitAppended(),
    discard: () => replacement.discard(),
  }
}

/** Writes all at once; `options` are for a regular file. Throws FileError, UsageError. */
export async function writeOutput(out: string, text: string, options: ReplaceOptions): Promise<void> {
  if (!isStandardOutput(out) && !isStream(out)) return replaceFile(out, text, options)
  const output = openOutput(out, options)
  await output.write(Buffer.from(text))
  await output.commit()
}

/**
 * Discards the output on SIGINT and SIGTERM; then the signal ends the process. `process.exit` would wait for
 * ever for threads of DuckDB that wait for a function. Returns the way to undo both.
 */
export function discardOnSignals(output: Pick<Output, 'discard'>): () => void {
  const interrupted = (signal: NodeJS.Signals): void => {
    output.discard()
    undo()
    process.kill(process.pid, signal)
  }
  const undo = (): void => void process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted)
  return undo
}

/** A fifo or a device; not a directory. */
export function isStream(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory()) throw new UsageError(`${path} is a directory`, { hint: 'name a file with -o' })
  return found !== undefined && !found.isFile()
}

function streamOf(descriptor: number): Output {
  const queue = new WriteQueue(descriptor, 'stream')
  return {
    write: (bytes) => queue.write(bytes),
    commit: async () => closeSync(descriptor),
    discard: () => undefined,
  }
}

/**
 * Resolves when the bytes are written, by the stream of the process: the descriptor of a pipe does not block,
 * and may take nothing just now. An error ends the process (main.ts), while the caller waits here.
 */
export function writeStandardOutput(part: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(part, (error) => {
      if (!error) resolve()
    })
  })
}

const standardOutput: Output = {
  write: writeStandardOutput,
  commit: async () => undefined,
  discard: () => undefined,
}
