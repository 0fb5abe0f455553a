// Parquet files: a single COPY with a function of the vault. Order, types and metadata are kept; types of
// tokenized columns stand in the metadata `coffer`, and detokenize gives the types back.
import { resolve } from 'node:path'
import { OperatorError, UsageError } from '../errors.ts'
import type { Report } from '../table/report.ts'
import type { Operation } from '../table/vault.ts'
import { openConnection } from './connection.ts'
import { OwnErrors, toOperatorError } from './faults.ts'
import { loadDuckDB } from './package.ts'
import { askAhead, type ColumnContext, newTally, registerColumn, type Tally } from './parquet-column.ts'
import { type Column, ORIGINALS_KEY, readParquetFile, SCHEMA_KEYS } from './parquet-file.ts'
import { fieldIds } from './parquet-schema.ts'
import { quoted, textLiteral } from './sql-text.ts'
import { isNumber, readingOf } from './types.ts'
import { BlockingVault, type VaultAddress } from './vault-thread.ts'

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
  /** Called with the rows of the file; the result is called with the rows that are done. */
  readonly begin?: (rows: number) => Promise<(done: number) => void>
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
  const own = new OwnErrors()
  // DuckDB creates the file with the mode of the process.
  const mask = process.umask(0o077)
  try {
    // Text of a TIMESTAMP WITH TIME ZONE depends on the zone.
    await connection.run("SET TimeZone = 'UTC'")
    const file = await readParquetFile(connection, options.file, options.columns)
    // Each thread has a row group in memory.
    if (file.rowBytes > WIDE_ROW_BYTES) await connection.run('SET threads = 1')
    const columns = findColumns(file.columns, options.columns)
    return await convert({ duckdb, connection, own, file, columns, vault, options })
  } catch (error) {
    throw toOperatorError(error, { own, known: `${resolve(options.file)} ${options.out}` })
  } finally {
    process.umask(mask)
    connection.closeSync()
    instance.closeSync()
    await vault.close()
  }
}

type Conversion = ColumnContext & {
  readonly columns: readonly Column[]
  readonly options: ParquetOptions
}

async function convert(conversion: Conversion): Promise<Report> {
  const { connection, file, columns, options } = conversion
  const { operation, asText, warn } = options
  const done = await options.begin?.(file.rows)
  if (operation === 'tokenize') warnOfNumbers(columns, asText, warn)
  const tally = newTally()
  const replacements: string[] = []
  for (const [i, column] of columns.entries()) {
    const argument = argumentOf(conversion, column)
    const name = `coffer_column_${i}`
    const about = { name, column, tally, done: i === 0 ? done : undefined }
    const answers = registerColumn(conversion, about)
    await askAhead(conversion, { column, argument, answers })
    replacements.push(`${typed(conversion, column, `${name}(${argument})`)} AS ${quoted(column.name)}`)
  }
  await connection.run(
    `COPY (SELECT * REPLACE (${replacements.join(', ')}) FROM ${file.source})
     TO ${textLiteral(options.out)} (${copyOptions(conversion)})`,
  )
  return reportOf(conversion, tally)
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

/** The values that the vault is asked about, as an expression of SQL. */
function argumentOf({ options }: Conversion, { name, type }: Column): string {
  const { operation, asText } = options
  if (operation === 'tokenize') {
    const reading = readingOf(type, asText)
    if (reading === 'refused') {
      throw new OperatorError(`column ${name} is ${type}, which has no exact number in a token`, {
        hint: 'use --as text',
      })
    }
    return reading === 'as text' ? `CAST(${quoted(name)} AS VARCHAR)` : quoted(name)
  }
  if (type !== 'VARCHAR') {
    throw new OperatorError(`column ${name} is ${type}, and tokens are text`, {
      hint: 'name a column with tokens',
    })
  }
  return quoted(name)
}

/** The value of the column in OUT: of detokenize with the type of the original. */
function typed(conversion: Conversion, column: Column, call: string): string {
  const type = typeAfter(conversion, column)
  return type === 'VARCHAR' ? call : `CAST(${call} AS ${type})`
}

/** The type of the column in OUT. */
function typeAfter({ file, options }: Conversion, { name }: Column): string {
  return (options.operation === 'detokenize' ? file.originals.get(name) : undefined) ?? 'VARCHAR'
}

function copyOptions(conversion: Conversion): string {
  const { file, columns, options } = conversion
  const { operation } = options
  const bytes = file.rowBytes + (operation === 'tokenize' ? columns.length * TOKEN_BYTES : 0)
  const fits = Math.floor(GROUP_BYTES / Math.max(1, bytes))
  // Tokens are shorter than the values to come: groups do not grow.
  const most = operation === 'detokenize' && file.groupRows > 0 ? file.groupRows : MOST_GROUP_ROWS
  const group = Math.max(LEAST_GROUP_ROWS, Math.min(fits, most, MOST_GROUP_ROWS))
  const texts = operation === 'tokenize' ? columns.map(({ name }) => name) : []
  const ids = fieldIds(file.fields, texts)
  const entries = [...metadataAfter(conversion)].map(([key, value]) => `${quoted(key)}: unhex('${value}')`)
  return [
    'FORMAT parquet',
    `COMPRESSION ${textLiteral(file.compression.toLowerCase())}`,
    `ROW_GROUP_SIZE ${group}`,
    'USE_TMP_FILE false',
    ...(entries.length > 0 ? [`KV_METADATA {${entries.join(', ')}}`] : []),
    ...(ids === undefined ? [] : [`FIELD_IDS ${ids}`]),
  ].join(', ')
}

/** The metadata of OUT, values in hexadecimal digits. Warns of keys that DuckDB cannot write. */
function metadataAfter(conversion: Conversion): Map<string, string> {
  const { file, columns, options } = conversion
  const changes = columns.some((column) => column.type !== typeAfter(conversion, column))
  const originals = originalsAfter(conversion)
  const metadata = new Map<string, string>()
  if (originals.size > 0) {
    const text = JSON.stringify(Object.fromEntries(originals))
    metadata.set(ORIGINALS_KEY, Buffer.from(text).toString('hex'))
  }
  const taken = new Set(['', ...metadata.keys()])
  const lost: string[] = []
  for (const [key, value] of file.metadata) {
    if (changes && SCHEMA_KEYS.includes(key)) continue
    const lower = key.toLowerCase()
    if (taken.has(lower) || key.includes('\0')) lost.push(JSON.stringify(key))
    else metadata.set(key, value)
    taken.add(lower)
  }
  const fault = 'DuckDB writes no empty key, no key with NUL, and no two keys that differ in case only'
  if (lost.length > 0) options.warn(`metadata left out: ${lost.join(', ')}: ${fault}`)
  return metadata
}

function originalsAfter({ file, columns, options: { operation } }: Conversion): Map<string, string> {
  const originals = new Map(file.originals)
  for (const { name, type } of columns) {
    if (operation === 'tokenize' && type !== 'VARCHAR') originals.set(name, type)
    // Tokens of tokens are text: a value of the first type comes only from the second detokenize.
    else if (operation !== 'retokenize') originals.delete(name)
  }
  return originals
}

function reportOf({ file, options }: Conversion, tally: Tally): Report {
  const { warn } = options
  if (tally.lost > 0)
    warn(`${tally.lost} texts that are no tokens are NULL now: their columns have other types again`)
  return {
    rows: file.rows,
    values: tally.values,
    distinct: tally.distinct.count,
    replaced: tally.replaced,
    notFound: tally.notFound,
    unmatched: 0,
    epochs: [...tally.epochs].sort((a, b) => a - b),
  }
}
