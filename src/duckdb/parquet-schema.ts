// The schema of a Parquet file as a tree: names that DuckDB cannot tell apart, digits lost by DuckDB, and
// the ids of fields.
import { assert } from '../assert.ts'
import { OperatorError, UsageError } from '../errors.ts'
import { quoted } from './sql-text.ts'

type Cell = string | number | null

export type Field = {
  readonly name: string
  /** The physical type; null for a group. */
  readonly type: string | null
  /** The logical type in words of Parquet. */
  readonly logical: string
  /** The type in DuckDB. */
  readonly reading: string
  readonly id: number | null
  readonly children: readonly Field[]
}

/** The columns of `parquet_schema` for `fieldsOf`. */
export const SCHEMA_COLUMNS = [
  'name',
  'coalesce(num_children, 0)',
  'type',
  "coalesce(logical_type, converted_type, '')",
  "coalesce(duckdb_type, '')",
  'field_id',
].join(', ')

/** The columns of a file. `schema`: the fields in depth-first order; the root is first. */
export function fieldsOf(schema: readonly (readonly Cell[])[]): readonly Field[] {
  let at = 0
  const next = (): Field => {
    assert(at < schema.length, 'a schema has as many fields as its groups say')
    const [name, count, type, logical, reading, id] = schema[at++]
    const children = Array.from({ length: Number(count) }, next)
    return {
      name: String(name),
      type: type === null ? null : String(type),
      logical: String(logical),
      reading: String(reading),
      id: id === null ? null : Number(id),
      children,
    }
  }
  return next().children
}

/**
 * Throws OperatorError where names of columns differ in case only, or not at all: to DuckDB the names are
 * equal. Throws UsageError where a wanted name is there twice.
 */
export function checkNames(columns: readonly Field[], wanted: readonly string[]): void {
  const seen = new Map<string, string>()
  for (const { name } of columns) {
    const other = seen.get(name.toLowerCase())
    if (other === name && wanted.includes(name))
      throw new UsageError(`column ${name} is there twice, and DuckDB cannot tell the two apart`, {
        hint: `the columns are ${columns.map((each) => each.name).join(', ')}`,
      })
    if (other !== undefined) {
      throw new OperatorError(`the file has columns ${other} and ${name}, which DuckDB cannot tell apart`, {
        hint: 'rename a column',
      })
    }
    seen.set(name.toLowerCase(), name)
  }
}

/** Throws OperatorError for a column whose nanoseconds DuckDB reads as microseconds and a copy would lose. */
export function checkDigits(columns: readonly Field[]): void {
  for (const { name, ...field } of columns) {
    const lossy = lossyType(field)
    if (lossy === undefined) continue
    throw new OperatorError(`column ${name} is ${lossy}, of which DuckDB reads microseconds only`, {
      hint: 'cast the column to microseconds first, or leave the column out of the file',
    })
  }
}

/** The type of Parquet of the first field, at any depth, with digits to lose. */
function lossyType({ type, logical, reading, children }: Omit<Field, 'name'>): string | undefined {
  for (const child of children) {
    const found = lossyType(child)
    if (found !== undefined) return found
  }
  if (reading.endsWith('_NS')) return undefined
  if (type === 'INT96') return type
  const unit = /^(Time(?:stamp)?)Type\b.*NANOS=Nano/.exec(logical)?.[1]
  return unit === undefined ? undefined : `${unit.toUpperCase()}(NANOS)`
}

/**
 * The ids of fields for COPY; undefined where the file has none. `texts`: columns without fields inside
 * in the copy.
 */
export function fieldIds(columns: readonly Field[], texts: readonly string[]): string | undefined {
  const ids: number[] = []
  const found = membersOf(
    columns.map((column) => (texts.includes(column.name) ? { ...column, children: [] } : column)),
    ids,
  )
  // DuckDB refuses an id for two fields.
  return found.length === 0 || new Set(ids).size < ids.length ? undefined : `{${found.join(', ')}}`
}

/** `name: id`, or with the ids of fields inside `name: {__duckdb_field_id: id, name: id}`. */
function membersOf(fields: readonly Field[], ids: number[]): string[] {
  return fields.flatMap(({ name, logical, id, children }) => {
    const own = id === null ? [] : [`__duckdb_field_id: ${id}`]
    if (id !== null) ids.push(id)
    const members = membersOf(insideOf(logical, children), ids)
    if (members.length === 0) return id === null ? [] : [`${quoted(name)}: ${id}`]
    return [`${quoted(name)}: {${[...own, ...members].join(', ')}}`]
  })
}

/** The fields in a field by DuckDB's names: between a list or a map and its elements stands a group. */
function insideOf(logical: string, children: readonly Field[]): readonly Field[] {
  const names = /^list/i.test(logical) ? ['element'] : /^map/i.test(logical) ? ['key', 'value'] : undefined
  if (names === undefined) return children
  const inside = children[0]?.children ?? []
  return inside.length === names.length ? inside.map((field, i) => ({ ...field, name: names[i] })) : []
}
