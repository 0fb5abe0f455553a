// A Parquet file before the conversion: columns and their types, size, metadata.
import { resolve } from 'node:path'
import type { DuckDBConnection } from '@duckdb/node-api'
import { checkDigits, checkNames, type Field, fieldsOf, SCHEMA_COLUMNS } from './parquet-schema.ts'
import { textLiteral } from './sql-text.ts'
import { isTypeName } from './types.ts'

export type Column = { readonly name: string; readonly type: string }

export type ParquetFile = {
  /** A literal of SQL: the path, read as the name of a file and not as a pattern. */
  readonly source: string
  readonly columns: readonly Column[]
  readonly fields: readonly Field[]
  readonly rows: number
  /** Bytes of a row in memory, about. */
  readonly rowBytes: number
  /** The largest row group, in rows. */
  readonly groupRows: number
  /** A name of COPY. */
  readonly compression: string
  /** Key-value metadata of the file, without members about the old columns; values in hexadecimal digits. */
  readonly metadata: ReadonlyMap<string, string>
  /** Types of columns before the columns were tokenized, by column. */
  readonly originals: ReadonlyMap<string, string>
}

/** The member of the metadata with the original types: `{"ssn":"BIGINT"}`. */
export const ORIGINALS_KEY = 'coffer'
/** Readers would take a column for its old type. */
const OUTDATED_KEYS: readonly string[] = ['ARROW:schema', 'pandas', ORIGINALS_KEY]
/** Schemas of Spark and Avro: right as long as every column keeps its type. */
export const SCHEMA_KEYS: readonly string[] = [
  'org.apache.spark.sql.parquet.row.metadata',
  'parquet.avro.schema',
  'avro.schema',
]

/**
 * Throws OperatorError and UsageError for columns that DuckDB would copy with changes. `wanted`: names
 * of columns, given by a user.
 */
export async function readParquetFile(
  connection: DuckDBConnection,
  file: string,
  wanted: readonly string[],
): Promise<ParquetFile> {
  const path = textLiteral(onePath(resolve(file)))
  const source = `read_parquet(${path}, hive_partitioning = false)`
  const ask = async (sql: string): Promise<(string | number | null)[][]> => {
    const rows = (await connection.runAndReadAll(sql)).getRows()
    return rows.map((row) => row.map((cell) => (typeof cell === 'bigint' ? Number(cell) : textOrNull(cell))))
  }
  const fields = fieldsOf(await ask(`SELECT ${SCHEMA_COLUMNS} FROM parquet_schema(${path})`))
  checkNames(fields, wanted)
  checkDigits(fields)
  const columns = (await ask(`DESCRIBE SELECT * FROM ${source}`)).map(([name, type]) => ({
    name: String(name),
    type: String(type),
  }))
  const [[rows]] = await ask(`SELECT num_rows FROM parquet_file_metadata(${path})`)
  const [[bytes, groupRows, compression]] = await ask(
    `SELECT coalesce(sum(total_uncompressed_size), 0)::BIGINT, coalesce(max(row_group_num_rows), 0)::BIGINT,
       any_value(compression) FROM parquet_metadata(${path})`,
  )
  const metadata = await ask(
    `SELECT coalesce(try(decode(key)), ''), hex(value) FROM parquet_kv_metadata(${path})`,
  )
  const kept = new Map(
    metadata.flatMap(([key, value]) => (value === null ? [] : [[String(key), String(value)]])),
  )
  const originals = readOriginals(Buffer.from(kept.get(ORIGINALS_KEY) ?? '', 'hex').toString() || '{}')
  for (const key of OUTDATED_KEYS) kept.delete(key)
  return {
    source,
    columns,
    fields,
    rows: Number(rows),
    rowBytes: Number(bytes) / Math.max(1, Number(rows)),
    groupRows: Number(groupRows),
    compression: compression === null ? 'SNAPPY' : String(compression),
    metadata: kept,
    originals,
  }
}

/** A pattern of DuckDB for the path alone: the pattern `data[1].parquet` would read `data1.parquet`. */
function onePath(path: string): string {
  return path.replace(/[*?[]/g, '[$&]')
}

function textOrNull(cell: unknown): string | null {
  return cell === null ? null : String(cell)
}

/** Other texts than names of types are left out: the file may come from anybody. */
function readOriginals(text: string): Map<string, string> {
  const originals = new Map<string, string>()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return originals
  }
  if (typeof json !== 'object' || json === null) return originals
  for (const [name, type] of Object.entries(json))
    if (typeof type === 'string' && isTypeName(type)) originals.set(name, type)
  return originals
}
