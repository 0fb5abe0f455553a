// A file of text through the vault: input, splice, output, progress and the report.
import { pipeline } from 'node:stream/promises'
import type { Coffer } from '../../client/index.ts'
import { errorCode, OperatorError } from '../../errors.ts'
import { CsvFormat } from '../../table/csv.ts'
import type { Compression, FormatName } from '../../table/file-format.ts'
import { JsonFormat } from '../../table/json.ts'
import type { Format } from '../../table/piece.ts'
import type { Report } from '../../table/report.ts'
import type { Source } from '../../table/source.ts'
import { PARTS_VALID, Splice } from '../../table/splice.ts'
import type { Operation } from '../../table/vault.ts'
import { settled } from '../../waiting.ts'
import { discardOnSignals, openOutput, WITH_VALUES } from '../terminal/output.ts'
import { startProgress } from '../terminal/progress.ts'
import { compressorOf, type Input } from './input.ts'

const MEGABYTE = 1_000_000

type TextOptions = {
  readonly operation: Operation
  readonly format: Exclude<FormatName, 'parquet'>
  readonly columns: readonly string[]
  readonly delimiter: string | undefined
  readonly asText: boolean
  readonly newField: string | undefined
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
}

type Conversion = TextOptions & {
  readonly file: string
  readonly input: Input
  readonly out: string
  readonly coffer: Coffer
  /** Called before the output takes its name. An error leaves no output. */
  readonly check: (report: Report) => void
}

/** Throws OperatorError, UsageError, CofferError; then there is no output. */
export async function convertText(options: Conversion): Promise<Report> {
  const { input, out, coffer, check, operation, allowTokens, mixedEpochs } = options
  const format = formatOf(options)
  const splice = new Splice({ operation, format, vault: coffer, allowTokens, mixedEpochs })
  const output = openOutput(out, operation === 'detokenize' ? WITH_VALUES : {})
  const stop = discardOnSignals(output)
  const progress = await startProgress({
    label: `${operation.slice(0, -1)}ing`,
    unit: 'MB',
    ...(input.size === undefined ? {} : { total: Math.ceil(input.size / MEGABYTE) }),
  })
  try {
    const content = splice.run(sourceOf(options))
    await compressed(content, input.compression, (bytes) => {
      progress.show(Math.floor(input.read() / MEGABYTE))
      return output.write(bytes)
    })
    check(splice.report)
    await output.commit()
    return splice.report
  } finally {
    progress.end()
    stop()
    output.discard()
  }
}

function formatOf({ format, columns, delimiter, newField, asText, operation }: TextOptions): Format {
  switch (format) {
    case 'csv':
    case 'tsv':
      return new CsvFormat({ columns, delimiter: delimiter ?? (format === 'csv' ? ',' : '\t'), newField })
    case 'ndjson':
    case 'json':
      return new JsonFormat({ columns, isLines: format === 'ndjson', asText, operation })
  }
}

/** The content of the file; faults of a compressed file become OperatorErrors. */
function sourceOf({ file, input }: Conversion): Source {
  return {
    read: async (into) => {
      try {
        return await input.source.read(into)
      } catch (error) {
        if (!/^(?:Z_|ZSTD_|ERR_)/.test(errorCode(error) ?? '')) throw error
        throw new OperatorError(`${file} is damaged: its ${input.compression} content cannot be inflated`, {
          cause: error,
          hint: 'make or copy the file again',
        })
      }
    },
  }
}

/** Gives `write` the content in order, compressed. */
async function compressed(
  content: AsyncGenerator<Buffer>,
  compression: Compression,
  write: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const compressor = compressorOf(compression)
  if (compressor === undefined) await writeAll(content, write)
  else await pipeline(copies(content), compressor, (packed: AsyncIterable<Buffer>) => writeAll(packed, write))
}

/** A compressor keeps the parts for longer than they are valid. */
async function* copies(content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const bytes of content) yield Buffer.from(bytes)
}

/** Makes more parts while some wait to be written: many pieces have their answers at the same time. */
async function writeAll(
  content: AsyncIterable<Buffer>,
  write: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const waiting: Promise<void>[] = []
  let hasFailed = false
  try {
    for await (const bytes of content) {
      if (hasFailed) break
      const writing = write(bytes)
      writing.catch(() => {
        hasFailed = true
      })
      if (waiting.push(writing) === PARTS_VALID - 1) await waiting.shift()
    }
  } finally {
    await settled(waiting)
  }
}
