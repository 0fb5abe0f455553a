// A Parquet file through the vault, by DuckDB, which is loaded only here.
import { OperatorError, UsageError } from '../../errors.ts'
import { Replacement } from '../../files.ts'
import type { Report } from '../../table/report.ts'
import type { Operation } from '../../table/vault.ts'
import { address } from '../terminal/connect.ts'
import { note } from '../terminal/terminal.ts'
import { discardOnSignals, isStandardOutput, isStream } from './output.ts'

type ParquetRun = {
  readonly operation: Operation
  readonly file: string
  readonly out: string
  readonly columns: readonly string[]
  readonly asText: boolean
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
  /** Called before the output takes its name. An error leaves no output. */
  readonly check: (report: Report) => void
}

/** Throws OperatorError, UsageError; then there is no output. */
export async function convertParquetFile({ file, out, check, ...options }: ParquetRun): Promise<Report> {
  if (file === '-' || isStandardOutput(out) || isStream(out))
    throw new UsageError('Parquet is not read from stdin or written into a stream', {
      hint: 'name two files',
    })
  const vault = address()
  if (isStream(file)) throw new OperatorError(`${file} is no regular file`, { hint: 'name a Parquet file' })
  const { convertParquet } = await import('../../duckdb/parquet.ts')
  const replacement = Replacement.open(out, { mode: 0o600 })
  const stop = discardOnSignals(replacement)
  try {
    const warn = (text: string): void => note(`coffer: ${text}`)
    const report = await convertParquet({ ...options, file, out: replacement.temporary, vault, warn })
    check(report)
    await replacement.commitAppended()
    return report
  } finally {
    stop()
    replacement.discard()
  }
}
