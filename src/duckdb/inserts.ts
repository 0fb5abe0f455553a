// Pairs of token and value into a table of DuckDB: thousands as two texts, which DuckDB splits in threads of
// its own. Row by row, the thread of JavaScript would do most of the work of `recover`.
import type { DuckDBConnection, DuckDBPreparedStatement } from '@duckdb/node-api'
import { quoted } from './sql-text.ts'

/** A control character that hardly a value has. */
const SEPARATOR = '\x1f'
/** DuckDB's package may end a text there. */
const NUL = '\0'

export class Inserts {
  readonly #plain: DuckDBPreparedStatement
  /** Where a value has a separator in it, or is null: DuckDB takes three times the time. */
  readonly #json: DuckDBPreparedStatement
  #last: Promise<unknown> = Promise.resolve()

  private constructor(plain: DuckDBPreparedStatement, json: DuckDBPreparedStatement) {
    this.#plain = plain
    this.#json = json
  }

  /** `table`: a temporary table with two columns of VARCHAR. */
  static async prepare(connection: DuckDBConnection, table: string): Promise<Inserts> {
    const into = `INSERT INTO temp.${quoted(table)} SELECT unnest(string_split($1, ' ')),`
    const plain = await connection.prepare(`${into} unnest(string_split($2, chr(31)))`)
    return new Inserts(plain, await connection.prepare(`${into} unnest(from_json($2, '["VARCHAR"]'))`))
  }

  /**
   * Returns how many values are null. One statement runs at a time; a caller waits for its own. The tokens
   * have no blanks.
   */
  async insert(tokens: readonly string[], values: readonly (string | null)[]): Promise<number> {
    const insert = this.#last.then(() => this.#run(tokens, values))
    this.#last = insert.catch(() => undefined)
    await insert
    return values.reduce((sum, value) => (value === null ? sum + 1 : sum), 0)
  }

  close(): void {
    this.#plain.destroySync()
    this.#json.destroySync()
  }

  async #run(tokens: readonly string[], values: readonly (string | null)[]): Promise<void> {
    const isPlain = !values.some((each) => each === null || each.includes(SEPARATOR) || each.includes(NUL))
    const statement = isPlain ? this.#plain : this.#json
    statement.bindVarchar(1, tokens.join(' '))
    statement.bindVarchar(2, isPlain ? values.join(SEPARATOR) : JSON.stringify(values))
    await statement.run()
  }
}
