// Results of SQL as text: aligned columns, CSV, or a list of JSON objects. Rows come in parts, and memory
// does not grow with the result.
import type { DuckDBValue } from '@duckdb/node-api'
import type { DuckDB } from '../../duckdb/package.ts'
import { bold } from '../terminal/terminal.ts'

export type Form = 'table' | 'csv' | 'json'
type Rows = readonly (readonly DuckDBValue[])[]

/** Turns rows into text. `end` is called once, after all rows. */
type Printer = { rows(rows: Rows): string; end(): string }

export function printerOf(form: Form, columns: readonly string[], duckdb: DuckDB): Printer {
  if (form === 'json') return new JsonPrinter(columns, duckdb)
  if (columns.length === 0) return { rows: () => '', end: () => '' }
  return form === 'csv' ? csvPrinter(columns) : new TablePrinter(columns)
}

/** The first rows decide the widths of the columns. */
const MEASURED_ROWS = 1_000

class TablePrinter implements Printer {
  readonly #columns: readonly string[]
  readonly #numeric: boolean[]
  #waiting: string[][] = []
  #widths: readonly number[] | undefined

  constructor(columns: readonly string[]) {
    this.#columns = columns.map(visible)
    this.#numeric = columns.map(() => true)
  }

  rows(rows: Rows): string {
    const cells = rows.map((row) => row.map(shown))
    if (this.#widths) return cells.map((row) => this.#line(row)).join('')
    for (const row of rows) {
      for (const [i, value] of row.entries())
        if (value !== null && typeof value !== 'number' && typeof value !== 'bigint') this.#numeric[i] = false
    }
    this.#waiting.push(...cells)
    return this.#waiting.length < MEASURED_ROWS ? '' : this.#flush()
  }

  end(): string {
    return this.#widths ? '' : this.#flush()
  }

  #flush(): string {
    const all = [this.#columns, ...this.#waiting]
    this.#widths = this.#columns.map((_, i) => all.reduce((most, row) => Math.max(most, row[i].length), 0))
    const [head, ...lines] = all.map((row) => this.#line(row))
    this.#waiting = []
    return `${bold(head.trimEnd())}\n${lines.join('')}`
  }

  #line(cells: readonly string[]): string {
    const widths = this.#widths ?? []
    const padded = cells.map((cell, i) =>
      this.#numeric[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i]),
    )
    return `${padded.join('  ').trimEnd()}\n`
  }
}

function shown(value: DuckDBValue): string {
  return value === null ? 'NULL' : visible(String(value))
}

/** Control characters as escapes: a value must not move the cursor of a terminal. */
function visible(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1)
    return escaped.length > 1 ? escaped : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

function csvPrinter(columns: readonly string[]): Printer {
  const line = (cells: readonly DuckDBValue[]): string => `${cells.map(csvField).join(',')}\n`
  let head = line(columns)
  const withHead = (text: string): string => {
    const whole = head + text
    head = ''
    return whole
  }
  return { rows: (rows) => withHead(rows.map(line).join('')), end: () => withHead('') }
}

/** Nothing for NULL, `""` for the empty text. */
function csvField(value: DuckDBValue): string {
  if (value === null) return ''
  const text = String(value)
  return text === '' || /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

class JsonPrinter implements Printer {
  readonly #names: readonly string[]
  readonly #duckdb: DuckDB
  #begun = false

  constructor(columns: readonly string[], duckdb: DuckDB) {
    this.#names = distinctNames(columns).map((name) => JSON.stringify(name))
    this.#duckdb = duckdb
  }

  rows(rows: Rows): string {
    return rows.map((row) => this.#separator() + this.#object(row)).join('')
  }

  end(): string {
    return this.#begun ? ']\n' : '[]\n'
  }

  #separator(): string {
    const separator = this.#begun ? ',\n' : '['
    this.#begun = true
    return separator
  }

  #object(row: readonly DuckDBValue[]): string {
    return `{${row.map((value, i) => `${this.#names[i]}:${json(value, this.#duckdb)}`).join(',')}}`
  }
}

/** A repeated name gets a number: an object has a member once. */
function distinctNames(columns: readonly string[]): string[] {
  const taken = new Set<string>()
  return columns.map((column) => {
    let name = column
    for (let i = 1; taken.has(name); i++) name = `${column}_${i}`
    taken.add(name)
    return name
  })
}

/** Integers and decimals with all digits, NaN and infinities as text, other types by their text. */
function json(value: DuckDBValue, duckdb: DuckDB): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'bigint' || value instanceof duckdb.DuckDBDecimalValue) return String(value)
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : JSON.stringify(String(value))
  if (value instanceof duckdb.DuckDBListValue || value instanceof duckdb.DuckDBArrayValue)
    return `[${value.items.map((item) => json(item, duckdb)).join(',')}]`
  if (value instanceof duckdb.DuckDBStructValue) return jsonObject(Object.entries(value.entries), duckdb)
  if (value instanceof duckdb.DuckDBMapValue)
    return `[${value.entries
      .map(({ key, value: item }) =>
        jsonObject(
          [
            ['key', key],
            ['value', item],
          ],
          duckdb,
        ),
      )
      .join(',')}]`
  return JSON.stringify(String(value))
}

function jsonObject(entries: readonly (readonly [string, DuckDBValue])[], duckdb: DuckDB): string {
  return `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${json(value, duckdb)}`).join(',')}}`
}
