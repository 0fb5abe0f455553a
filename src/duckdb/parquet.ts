// Parquet files: a single COPY with a function of the vault. Order, types and metadata are kept; types of
// tokenized columns stand in the metadata `coffer`, and detokenize gives the types back.
import type { DuckDBConnection } from '@duckdb/node-api'
import { OperatorError, UsageError } from '../errors.ts'
import { DistinctCount } from '../table/distinct.ts'
import type { Report } from '../table/report.ts'
import { type Operation, type Scalar, TOKEN } from '../table/vault.ts'
import { CachedAnswers, type Counts, noCounts } from './answers.ts'
import { openConnection, toOperatorError } from './connection.ts'
import { registerFunction } from './functions.ts'
import { type DuckDB, loadDuckDB } from './package.ts'
import {
  type Column,
  ORIGINALS_KEY,
  type ParquetFile,
  quoted,
  readParquetFile,
  textLiteral,
} from './parquet-file.ts'
import { epochOf, ScalarError, textOf } from './scalars.ts'
import { isNumber, readingOf } from './types.ts'
import { BlockingVault, type VaultAddress, VaultError } from './vault-thread.ts'

export type ParquetOptions = {
  readonly operation: Operation
  readonly file: string
  /** A temporary path, written here; the caller syncs and renames. */
  readonly out: string
  /** Names, or `#3` for a place where no column has the name. */
  readonly columns: readonly string[]
  /** Values of all types are tokenized as their text. */
  readonly asText: boolean
  readonly allowTokens: boolean
  /** Whether the new tokens may have several epochs. */
  readonly mixedEpochs: boolean
  readonly vault: VaultAddress
  readonly rows?: (done: number, total: number) => void
  readonly warn: (text: string) => void
}

const CONFIG = { threads: '2', memory_limit: '512MB' }
const GROUP_BYTES = 32 * 1024 * 1024
const WIDE_ROW_BYTES = 4_096
const LEAST_GROUP_ROWS = 2_048
const MOST_GROUP_ROWS = 122_880
/** Bytes of a token in memory. */
const TOKEN_BYTES = 60

/**
 * Blocks the event loop while the file is converted. Throws UsageError for unknown columns, and
 * OperatorError, without values, for everything else.
 */
export async function convertParquet(options: ParquetOptions): Promise<Report> {
  const duckdb = await loadDuckDB()
  const { instance, connection } = await openConnection(duckdb, { file: ':memory:', config: CONFIG })
  const vault = new BlockingVault(options.vault)
  // DuckDB creates the file with the mode of the process.
  const mask = process.umask(0o077)
  try {
    // Text of a TIMESTAMP WITH TIME ZONE depends on the zone.
    await connection.run("SET TimeZone = 'UTC'")
    const file = await readParquetFile(connection, options.file)
    // Each thread has a row group in memory.
    if (file.rowBytes > WIDE_ROW_BYTES) await connection.run('SET threads = 1')
    const columns = findColumns(file.columns, options.columns)
    return await convert({ duckdb, connection, file, columns, vault, options })
  } catch (error) {
    throw toOperatorError(error)
  } finally {
    process.umask(mask)
    connection.closeSync()
    instance.closeSync()
    await vault.close()
  }
}

type Conversion = {
  readonly duckdb: DuckDB
  readonly connection: DuckDBConnection
  readonly file: ParquetFile
  readonly columns: readonly Column[]
  readonly vault: BlockingVault
  readonly options: ParquetOptions
}

async function convert(conversion: Conversion): Promise<Report> {
  const { connection, file, columns, options } = conversion
  const { operation, asText, warn } = options
  if (operation === 'tokenize') warnOfNumbers(columns, asText, warn)
  const counts = noCounts()
  const tally: Tally = { values: 0, replaced: 0, lost: 0, distinct: new DistinctCount() }
  const replacements = columns.map((column, i) => {
    const name = `coffer_column_${i}`
    registerColumn(conversion, { name, column, counts, tally })
    return `${expressionOf(conversion, column, name)} AS ${quoted(column.name)}`
  })
  await connection.run(
    `COPY (SELECT * REPLACE (${replacements.join(', ')}) FROM ${file.source})
     TO ${textLiteral(options.out)} (${copyOptions(conversion)})`,
  )
  return reportOf(conversion, counts, tally)
}

/** Throws UsageError with the names of the file. */
function findColumns(columns: readonly Column[], wanted: readonly string[]): Column[] {
  const found = wanted.map((name) => {
    const place = /^#([1-9]\d{0,8})$/.exec(name)?.[1]
    const column =
      columns.find((each) => each.name === name) ?? (place ? columns[Number(place) - 1] : undefined)
    if (column) return column
    const names = columns.map((each) => each.name).join(', ')
    throw new UsageError(`there is no column ${name}`, { hint: `the columns are ${names}` })
  })
  const twice = found.find((column, i) => found.indexOf(column) !== i)
  if (twice) throw new UsageError(`column ${twice.name} is named twice`, { hint: 'name each column once' })
  return found
}

function warnOfNumbers(columns: readonly Column[], asText: boolean, warn: (text: string) => void): void {
  if (asText) return
  for (const { name, type } of columns) {
    if (isNumber(type))
      warn(
        `column ${name} has numbers (${type}): 17 and "17" have two tokens; to join with text use --as text`,
      )
  }
}

/** The value of the column in OUT, as an expression of SQL. */
function expressionOf({ file, options }: Conversion, { name, type }: Column, call: string): string {
  const { operation, asText } = options
  if (operation === 'tokenize') {
    const reading = readingOf(type, asText)
    if (reading === 'refused') {
      throw new OperatorError(`column ${name} is ${type}, which has no exact number in a token`, {
        hint: 'use --as text',
      })
    }
    return reading === 'as text' ? `${call}(CAST(${quoted(name)} AS VARCHAR))` : `${call}(${quoted(name)})`
  }
  if (type !== 'VARCHAR') {
    throw new OperatorError(`column ${name} is ${type}, and tokens are text`, {
      hint: 'name a column with tokens',
    })
  }
  const original = operation === 'detokenize' ? file.originals.get(name) : undefined
  return original === undefined ? `${call}(${quoted(name)})` : `CAST(${call}(${quoted(name)}) AS ${original})`
}

type Tally = {
  /** Values without NULL. */
  values: number
  /** Values with another text than before. */
  replaced: number
  /** Texts without the form of a token, in columns of other types. */
  lost: number
  readonly distinct: DistinctCount
}

type ColumnFunction = {
  readonly name: string
  readonly column: Column
  readonly counts: Counts
  readonly tally: Tally
}

/** Registers the function of a column. Its errors name the column. */
function registerColumn(conversion: Conversion, { name, column, counts, tally }: ColumnFunction): void {
  const { duckdb, connection, vault, file, columns, options } = conversion
  const { operation, allowTokens, mixedEpochs, rows } = options
  const cached = new CachedAnswers(vault, { operation, allowTokens }, counts)
  const typed = operation === 'detokenize' && file.originals.has(column.name)
  let done = 0
  const answer = (values: readonly Scalar[]): (string | null)[] => {
    const asked = operation === 'tokenize' ? values : values.map(tokenOrNull)
    const answers = cached.of(asked)
    if (operation !== 'detokenize' && !mixedEpochs && counts.epochs.size > 1)
      throw rotated([...counts.epochs])
    done += values.length
    if (column === columns[0]) rows?.(done, file.rows)
    return values.map((value, i) => {
      if (value === null) return null
      tally.values++
      tally.distinct.addValue(value)
      const found = textOf(answers[i])
      if (found !== null) {
        if (found !== value) tally.replaced++
        if (operation === 'detokenize') counts.epochs.add(epochOf(String(value)) ?? 0)
        return found
      }
      if (operation === 'detokenize' && asked[i] !== null) return null
      if (typed) tally.lost++
      return typed ? null : textOf(value)
    })
  }
  registerFunction({
    duckdb,
    connection,
    name,
    takes: operation === 'tokenize' ? duckdb.ANY : duckdb.VARCHAR,
    gives: duckdb.VARCHAR,
    // DuckDB calls other functions for the distinct values of a dictionary: rows could not be counted.
    volatile: true,
    fault: (error) => inColumn(error, column.name),
    answer,
  })
}

/** Text without the form of a token is not asked for. */
function tokenOrNull(value: Scalar): Scalar {
  return typeof value === 'string' && TOKEN.test(value) ? value : null
}

function rotated(epochs: readonly number[]): OperatorError {
  const [first, second] = epochs.toSorted((a, b) => a - b)
  return new OperatorError(`the epoch changed from ${first} to ${second} on the way`, {
    hint: 'run it again, or with --mixed-epochs',
  })
}

function inColumn(error: unknown, column: string): unknown {
  if (!(error instanceof OperatorError)) return error
  const known = error instanceof VaultError ? HINTS[error.slug] : undefined
  const hint = error instanceof ScalarError ? 'use --as text' : (known ?? error.hint)
  const about = { cause: error, ...(hint === undefined ? {} : { hint }) }
  return new OperatorError(`column ${column}: ${error.message}`, about)
}

/** Hints for files, where the general hints are for SQL. */
const HINTS: Readonly<Record<string, string>> = {
  'invalid-value': 'use --as text for numbers beyond 2^53 - 1; a text has at most 32 KiB',
  'already-a-token': 'with --allow-tokens it is tokenized as other text',
}

function copyOptions({ file, columns, options }: Conversion): string {
  const { operation } = options
  const bytes = file.rowBytes + (operation === 'tokenize' ? columns.length * TOKEN_BYTES : 0)
  const fits = Math.floor(GROUP_BYTES / Math.max(1, bytes))
  // Tokens are shorter than the values to come: groups do not grow.
  const most = operation === 'detokenize' && file.groupRows > 0 ? file.groupRows : MOST_GROUP_ROWS
  const group = Math.max(LEAST_GROUP_ROWS, Math.min(fits, most, MOST_GROUP_ROWS))
  const metadata = new Map(file.metadata)
  const originals = originalsAfter({ file, columns, operation })
  if (originals.size > 0) metadata.set(ORIGINALS_KEY, JSON.stringify(Object.fromEntries(originals)))
  const entries = [...metadata].map(([key, value]) => `${quoted(key)}: ${textLiteral(value)}`)
  return [
    'FORMAT parquet',
    `COMPRESSION ${textLiteral(file.compression.toLowerCase())}`,
    `ROW_GROUP_SIZE ${group}`,
    'USE_TMP_FILE false',
    ...(entries.length > 0 ? [`KV_METADATA {${entries.join(', ')}}`] : []),
  ].join(', ')
}

function originalsAfter({
  file,
  columns,
  operation,
}: {
  readonly file: ParquetFile
  readonly columns: readonly Column[]
  readonly operation: Operation
}): Map<string, string> {
  const originals = new Map(file.originals)
  for (const { name, type } of columns) {
    if (operation === 'detokenize') originals.delete(name)
    else if (operation === 'tokenize' && type !== 'VARCHAR') originals.set(name, type)
  }
  return originals
}

function reportOf({ file, options }: Conversion, counts: Counts, tally: Tally): Report {
  const { operation, warn } = options
  if (tally.lost > 0)
    warn(`${tally.lost} texts that are no tokens are NULL now: their columns have other types again`)
  return {
    rows: file.rows,
    values: tally.values,
    distinct: tally.distinct.count,
    replaced: tally.replaced,
    notFound: operation === 'tokenize' ? 0 : counts.notFound,
    unmatched: 0,
    epochs: [...counts.epochs].sort((a, b) => a - b),
  }
}
