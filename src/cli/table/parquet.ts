// A Parquet file through the vault, by DuckDB, which is loaded only here.
import type { ParquetOptions } from '../../duckdb/parquet.ts'
import { OperatorError, UsageError } from '../../errors.ts'
import { Replacement } from '../../files.ts'
import type { Report } from '../../table/report.ts'
import { address } from '../terminal/connect.ts'
import { discardOnSignals, isStandardOutput, isStream, WITH_VALUES } from '../terminal/output.ts'
import { startProgress } from '../terminal/progress.ts'
import { note } from '../terminal/terminal.ts'

/** `out`: the name to take in the end. */
type ParquetRun = Omit<ParquetOptions, 'vault' | 'begin' | 'warn'> & {
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
  const replacement = Replacement.open(out, options.operation === 'detokenize' ? WITH_VALUES : {})
  const stop = discardOnSignals(replacement)
  let progress: Awaited<ReturnType<typeof startProgress>> | undefined
  try {
    const report = await convertParquet({
      ...options,
      file,
      out: replacement.temporary,
      vault,
      warn: (text) => {
        if (progress) progress.note(`coffer: ${text}`)
        else note(`coffer: ${text}`)
      },
      begin: async (total) => {
        const label = `${options.operation.slice(0, -1)}ing`
        const shown = await startProgress({ label, unit: 'rows', total })
        progress = shown
        return (done) => shown.show(done)
      },
    })
    check(report)
    await replacement.commitAppended()
    return report
  } finally {
    progress?.end()
    stop()
    replacement.discard()
  }
}
