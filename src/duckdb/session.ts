// A session of SQL with the functions of the vault: statements in turn, rows of the last as a stream.
import { existsSync } from 'node:fs'
import type { DuckDBConnection, DuckDBInstance, DuckDBPreparedStatement, DuckDBValue } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import { openConnection } from './connection.ts'
import { OwnErrors, toOperatorError } from './faults.ts'
import { checkMacros, type FunctionCounts, registerFunctions } from './functions.ts'
import { type DuckDB, keepByteOrderMarks, loadDuckDB } from './package.ts'
import { mendingOf } from './result-values.ts'
import { BlockingVault, type VaultAddress } from './vault-thread.ts'

type SessionOptions = {
  /** A file; undefined: in memory. */
  readonly database: string | undefined
  /** Whether the database may be changed, and made where there is none. */
  readonly write: boolean
  readonly vault: VaultAddress
}

/** Rows of a result, a part at a time. `columns` is empty for statements without a result. */
type Result = {
  readonly columns: readonly string[]
  readonly rows: AsyncIterable<readonly (readonly DuckDBValue[])[]>
}

/** Statements that change no macro, schema or database. */
const WITHOUT_CHANGES: readonly string[] = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE_INTO', 'COPY']
/** Statements without calls of functions; also the way out of a failed transaction, or to drop a macro. */
const WITHOUT_CALLS: readonly string[] = ['DROP', 'TRANSACTION']

export class Session {
  readonly duckdb: DuckDB
  readonly #instance: DuckDBInstance
  readonly #connection: DuckDBConnection
  readonly #vault: BlockingVault
  readonly #counts: FunctionCounts
  readonly #own = new OwnErrors()
  /** Whether no macro can have come since the last look. */
  #isChecked = false

  private constructor(duckdb: DuckDB, opened: Opened) {
    this.duckdb = duckdb
    this.#instance = opened.instance
    this.#connection = opened.connection
    this.#vault = opened.vault
    this.#counts = registerFunctions({ duckdb, ...opened, own: this.#own })
  }

  /** Throws OperatorError where the database cannot be opened, TypeError for a malformed address. */
  static async open({ database, write, vault }: SessionOptions): Promise<Session> {
    const duckdb = await loadDuckDB()
    await keepByteOrderMarks()
    const file = database === ':memory:' ? undefined : database
    if (file !== undefined && !write && !existsSync(file)) {
      throw new OperatorError(`there is no database ${file}`, {
        hint: 'make it with --write, or check its path',
      })
    }
    const mode = file === undefined || write ? 'AUTOMATIC' : 'READ_ONLY'
    const blocking = new BlockingVault(vault)
    try {
      const config = { access_mode: mode }
      const opened = await openConnection(duckdb, { file: file ?? ':memory:', config })
      return new Session(duckdb, { ...opened, vault: blocking })
    } catch (error) {
      await blocking.close()
      throw error
    }
  }

  /** Runs the statements, and gives the result of the last to `take`. Throws OperatorError. */
  async run(sql: string, take: (result: Result) => Promise<void>): Promise<void> {
    try {
      const statements = await this.#connection.extractStatements(sql)
      for (let i = 0; i < statements.count; i++) {
        const statement = await statements.prepare(i)
        try {
          await this.#checkMacros(statement)
          if (i < statements.count - 1) await statement.run()
          else await take(await this.#stream(statement))
        } finally {
          statement.destroySync()
        }
      }
    } catch (error) {
      throw toOperatorError(error, { own: this.#own, known: sql })
    }
  }

  /** Values not found since the last call, by the count of the functions. */
  takeNotFound(): number {
    const { notFound } = this.#counts
    this.#counts.notFound = 0
    return notFound
  }

  /** Ends the query under way. */
  interrupt(): void {
    this.#connection.interrupt()
  }

  async close(): Promise<void> {
    this.#connection.closeSync()
    this.#instance.closeSync()
    await this.#vault.close()
  }

  async #checkMacros({ statementType }: DuckDBPreparedStatement): Promise<void> {
    const type = this.duckdb.StatementType[statementType]
    if (!this.#isChecked && !WITHOUT_CALLS.includes(type)) await checkMacros(this.#connection)
    this.#isChecked = WITHOUT_CHANGES.includes(type)
  }

  async #stream(statement: DuckDBPreparedStatement): Promise<Result> {
    const { duckdb } = this
    // Types are refused before the statement runs.
    const mends = Array.from({ length: statement.columnCount }, (_, i) =>
      mendingOf(duckdb, statement.columnType(i)),
    )
    const result = await statement.stream()
    async function* rows(): AsyncGenerator<readonly (readonly DuckDBValue[])[]> {
      for (;;) {
        const chunk = await result.fetchChunk()
        if (!chunk || chunk.rowCount === 0) return
        const all = chunk.getRows()
        for (const [i, mend] of mends.entries()) if (mend) for (const row of all) row[i] = mend(row[i])
        yield all
      }
    }
    return { columns: result.columnNames(), rows: rows() }
  }
}

type Opened = {
  readonly instance: DuckDBInstance
  readonly connection: DuckDBConnection
  readonly vault: BlockingVault
}
