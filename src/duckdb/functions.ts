// The SQL functions `tokenize`, `detokenize`, `retokenize` and `token_epoch`. DuckDB calls a function in the
// thread of JavaScript, for at most 2,048 rows at a time, and waits.
import type { DuckDBConnection, DuckDBDataChunk, DuckDBType, DuckDBVector } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import type { Scalar } from '../table/vault.ts'
import { CachedAnswers } from './answers.ts'
import type { OwnErrors } from './faults.ts'
import type { DuckDB } from './package.ts'
import { epochOf, readScalars } from './scalars.ts'
import { quoted } from './sql-text.ts'
import { Texts } from './texts.ts'
import { TokenAnswers } from './token-answers.ts'
import type { BlockingVault } from './vault-thread.ts'
import { type TextBytes, writeBytes, writeTexts } from './written-texts.ts'

const KEPT_MS = 5_000
const NAMES: readonly string[] = ['tokenize', 'detokenize', 'retokenize', 'token_epoch']
/** Qualified: a database may have a macro `duckdb_functions` as well. */
const MACROS = `SELECT function_name, database_name, schema_name FROM system.main.duckdb_functions()
  WHERE function_type = 'macro' AND NOT internal`

/** Values not found, added up while queries run. */
export type FunctionCounts = { notFound: number }

/** A connection whose functions ask the vault. */
type Asking = {
  readonly duckdb: DuckDB
  readonly connection: DuckDBConnection
  readonly vault: BlockingVault
  /** Receives the errors of the functions. */
  readonly own: OwnErrors
}

type Registration = Omit<Asking, 'vault'> & {
  readonly name: string
  readonly takes: DuckDBType
  /** Called for every row; else DuckDB may call the function once for equal values. */
  readonly volatile?: boolean
  /** The error to throw in place of an error. */
  readonly fault?: (error: unknown) => unknown
} & (
    | { readonly gives: 'texts'; readonly answer: Answering<string> }
    | { readonly gives: 'integers'; readonly answer: Answering<number> }
    | { readonly gives: 'bytes'; readonly answer: (texts: Texts) => TextBytes }
  )

/** `result[i]` belongs to value i. */
type Answering<T> = (values: readonly Scalar[]) => readonly (T | null)[]

/** Registers the four functions for all connections of the instance of `connection`. */
export function registerFunctions({ vault, ...asking }: Asking): FunctionCounts {
  const { ANY, VARCHAR } = asking.duckdb
  const counts: FunctionCounts = { notFound: 0 }
  const counted = <T>(value: Scalar, answer: T | null): T | null => {
    if (answer === null && value !== null) counts.notFound++
    return answer
  }
  const cached = new CachedAnswers(vault, { operation: 'tokenize', allowTokens: false, keptMs: KEPT_MS })
  registerFunction({
    ...asking,
    name: 'tokenize',
    takes: ANY,
    gives: 'texts',
    answer: (values) => cached.of(values).map((each, i) => counted(values[i], each?.text ?? null)),
  })
  for (const operation of ['detokenize', 'retokenize'] as const) {
    const tokens = new TokenAnswers(vault, { operation, keptMs: KEPT_MS })
    const answer = (texts: Texts): TextBytes => {
      const found = tokens.of(texts)
      counts.notFound += found.notFound
      return found
    }
    registerFunction({ ...asking, name: operation, takes: VARCHAR, gives: 'bytes', answer })
  }
  registerFunction({
    ...asking,
    name: 'token_epoch',
    takes: VARCHAR,
    gives: 'integers',
    answer: (values) => values.map((value) => counted(value, value === null ? null : epochOf(String(value)))),
  })
  return counts
}

/**
 * Throws OperatorError where an open database has a macro with the name of a function: DuckDB would call the
 * macro. The list of all functions takes DuckDB 12 ms.
 */
export async function checkMacros(connection: DuckDBConnection): Promise<void> {
  const macros = (await connection.runAndReadAll(MACROS)).getRows().map((row) => row.map(String))
  const found = macros.find(([name]) => NAMES.includes(name.toLowerCase()))
  if (found === undefined) return
  const [name, ...schema] = found
  const macro = [...schema, name].map(quoted).join('.')
  throw new OperatorError(`the macro ${macro} stands in place of the function of the vault`, {
    hint: `drop the macro first: DROP MACRO ${macro}`,
  })
}

/** Registers a function with a parameter. The function throws the errors of `readScalars` and `answer`. */
export function registerFunction(registration: Registration): void {
  const { duckdb, connection, name, takes, gives, volatile = false } = registration
  const mainFunction = (_info: unknown, input: DuckDBDataChunk, output: DuckDBVector): void => {
    const values = (): Scalar[] => readScalars(duckdb, input.getColumnVector(0), input.rowCount)
    explained(() => {
      if (registration.gives === 'bytes') {
        const texts = new Texts(duckdb, input.getColumnVector(0), input.rowCount)
        writeBytes(duckdb, output, registration.answer(texts))
      } else if (registration.gives === 'texts') writeTexts(duckdb, output, registration.answer(values()))
      else writeIntegers(output, registration.answer(values()))
    }, registration)
  }
  const made = duckdb.DuckDBScalarFunction.create({
    name,
    parameterTypes: [takes],
    returnType: gives === 'integers' ? duckdb.INTEGER : duckdb.VARCHAR,
    volatile,
    mainFunction,
  })
  connection.registerScalarFunction(made)
}

function writeIntegers(output: DuckDBVector, integers: readonly (number | null)[]): void {
  for (const [i, integer] of integers.entries()) output.setItem(i, integer)
  output.flush()
}

/** Of an error only the message passes through DuckDB: the next step has to stand in the message. */
function explained<T>(work: () => T, { own, fault }: Pick<Registration, 'own' | 'fault'>): T {
  try {
    return work()
  } catch (cause) {
    const error = withHint(fault ? fault(cause) : cause)
    own.add(error)
    throw error
  }
}

function withHint(error: unknown): unknown {
  if (!(error instanceof OperatorError) || error.hint === undefined) return error
  return new OperatorError(`${error.message}: ${error.hint}`, { cause: error })
}
