// The SQL functions `tokenize`, `detokenize`, `retokenize` and `token_epoch`. DuckDB calls a function in the
// thread of JavaScript, for at most 2,048 rows at a time, and waits.
import type { DuckDBConnection, DuckDBDataChunk, DuckDBType, DuckDBVector } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import type { Scalar } from '../table/vault.ts'
import { CachedAnswers } from './answers.ts'
import type { DuckDB } from './package.ts'
import { epochOf, readScalars } from './scalars.ts'
import type { BlockingVault } from './vault-thread.ts'

const KEPT_MS = 5_000

/** Values not found, added up while queries run. */
export type FunctionCounts = { notFound: number }

type Registration = {
  readonly duckdb: DuckDB
  readonly connection: DuckDBConnection
  readonly name: string
  readonly takes: DuckDBType
  readonly gives: DuckDBType
  /** Called for every row; else DuckDB may call the function once for equal values. */
  readonly volatile?: boolean
  /** The error to throw in place of an error. */
  readonly fault?: (error: unknown) => unknown
  /** `result[i]` belongs to value i. */
  readonly answer: (values: readonly Scalar[]) => readonly (string | number | null)[]
}

/** Registers the four functions for all connections of the instance of `connection`. */
export function registerFunctions(
  duckdb: DuckDB,
  connection: DuckDBConnection,
  vault: BlockingVault,
): FunctionCounts {
  const { ANY, INTEGER, VARCHAR } = duckdb
  const counts: FunctionCounts = { notFound: 0 }
  const counted = <T>(value: Scalar, answer: T | null): T | null => {
    if (answer === null && value !== null) counts.notFound++
    return answer
  }
  for (const operation of ['tokenize', 'detokenize', 'retokenize'] as const) {
    const cached = new CachedAnswers(vault, { operation, allowTokens: false, keptMs: KEPT_MS })
    registerFunction({
      duckdb,
      connection,
      name: operation,
      takes: operation === 'tokenize' ? ANY : VARCHAR,
      gives: VARCHAR,
      answer: (values) => cached.of(values).map((each, i) => counted(values[i], each?.text ?? null)),
    })
  }
  registerFunction({
    duckdb,
    connection,
    name: 'token_epoch',
    takes: VARCHAR,
    gives: INTEGER,
    answer: (values) => values.map((value) => counted(value, value === null ? null : epochOf(String(value)))),
  })
  return counts
}

/** Registers a function with a parameter. The function throws the errors of `readScalars` and `answer`. */
export function registerFunction(registration: Registration): void {
  const { duckdb, connection, name, takes, gives, volatile = false, fault, answer } = registration
  const mainFunction = (_info: unknown, input: DuckDBDataChunk, output: DuckDBVector): void => {
    const rows = input.rowCount
    const answers = explained(() => answer(readScalars(duckdb, input.getColumnVector(0), rows)), fault)
    for (let i = 0; i < rows; i++) output.setItem(i, answers[i])
    output.flush()
  }
  const made = duckdb.DuckDBScalarFunction.create({
    name,
    parameterTypes: [takes],
    returnType: gives,
    volatile,
    mainFunction,
  })
  connection.registerScalarFunction(made)
}

/** Of an error only the message passes through DuckDB: the next step has to stand in the message. */
function explained<T>(work: () => T, fault = (error: unknown): unknown => error): T {
  try {
    return work()
  } catch (cause) {
    const error = fault(cause)
    if (!(error instanceof OperatorError) || error.hint === undefined) throw error
    throw new OperatorError(`${error.message}: ${error.hint}`, { cause })
  }
}
