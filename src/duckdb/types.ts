// Names of DuckDB's types in SQL.

/** Words of types, numbers, and names in quotes. */
const PART = /"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[ (),[\]]/y

/**
 * Whether the text can stand behind `CAST(x AS` and cannot close the cast: words, numbers, and balanced
 * parentheses.
 */
export function isTypeName(text: string): boolean {
  if (text.length === 0 || text.length > 10_000) return false
  let depth = 0
  for (let at = 0; at < text.length; at = PART.lastIndex) {
    PART.lastIndex = at
    const part = PART.exec(text)?.[0]
    if (part === undefined) return false
    if (part === '(') depth++
    else if (part === ')' && --depth < 0) return false
  }
  return depth === 0
}

type Reading = 'as it is' | 'as text' | 'refused'

const SCALARS: readonly string[] = [
  'VARCHAR',
  'BOOLEAN',
  'TINYINT',
  'SMALLINT',
  'INTEGER',
  'BIGINT',
  'UTINYINT',
  'USMALLINT',
  'UINTEGER',
  'UBIGINT',
  'DOUBLE',
]

/** How values of a type are tokenized. FLOAT is refused: 0.1 of 32 bits is another number of 64 bits. */
export function readingOf(type: string, asText: boolean): Reading {
  if (type === 'VARCHAR') return 'as it is'
  if (asText) return 'as text'
  if (SCALARS.includes(type)) return 'as it is'
  return type === 'FLOAT' ? 'refused' : 'as text'
}

/** Whether `17` of the type and the text `17` have two tokens. */
export function isNumber(type: string): boolean {
  return SCALARS.includes(type) && type !== 'VARCHAR' && type !== 'BOOLEAN'
}
