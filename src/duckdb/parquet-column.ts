// A column of a Parquet file on its way through the vault: the function that COPY calls for the column, and
// answers that are asked for before the first call, in large requests.
import type { DuckDBConnection } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import { DistinctCount } from '../table/distinct.ts'
import type { Operation, Scalar } from '../table/vault.ts'
import { type Answer, CachedAnswers } from './answers.ts'
import type { OwnErrors } from './faults.ts'
import { registerFunction } from './functions.ts'
import type { DuckDB } from './package.ts'
import type { Column, ParquetFile } from './parquet-file.ts'
import { epochOf, readScalars, ScalarError, textOf } from './scalars.ts'
import { type BlockingVault, VaultError } from './vault-thread.ts'

export type ColumnContext = {
  readonly duckdb: DuckDB
  readonly connection: DuckDBConnection
  readonly own: OwnErrors
  readonly file: ParquetFile
  readonly vault: BlockingVault
  readonly options: {
    readonly operation: Operation
    readonly allowTokens: boolean
    readonly mixedEpochs: boolean
  }
}

/** Counts over all columns and rows. */
export type Tally = {
  /** Values without NULL. */
  values: number
  /** Values with another text than before. */
  replaced: number
  /** Texts with the form of a token that were not found. */
  notFound: number
  /** Texts without the form of a token, in columns of other types. */
  lost: number
  readonly distinct: DistinctCount
  /** Of new tokens, or (detokenize) of tokens found. */
  readonly epochs: Set<number>
}

export function newTally(): Tally {
  return { values: 0, replaced: 0, notFound: 0, lost: 0, distinct: new DistinctCount(), epochs: new Set() }
}

type ColumnFunction = {
  readonly name: string
  readonly column: Column
  readonly tally: Tally
  /** Called with the rows that are done. */
  readonly done: ((rows: number) => void) | undefined
}

/** Registers the function of a column. Its errors name the column. */
export function registerColumn(context: ColumnContext, about: ColumnFunction): CachedAnswers {
  const { duckdb, connection, own, options } = context
  const { name, column, tally, done } = about
  const answers = answersOf(context, tally)
  const rewritten = rewriterOf(context, about)
  let rows = 0
  const answer = (values: readonly Scalar[]): (string | null)[] => {
    const found = answers.of(values)
    if (options.operation !== 'detokenize' && !options.mixedEpochs && tally.epochs.size > 1)
      throw rotated([...tally.epochs])
    rows += values.length
    done?.(rows)
    return values.map((value, i) => rewritten(value, found[i]))
  }
  registerFunction({
    duckdb,
    connection,
    own,
    name,
    takes: options.operation === 'tokenize' ? duckdb.ANY : duckdb.VARCHAR,
    gives: 'texts',
    // DuckDB calls other functions for the distinct values of a dictionary: rows could not be counted.
    volatile: true,
    fault: (error) => inColumn(error, column.name),
    answer,
  })
  return answers
}

function answersOf({ vault, options }: ColumnContext, { distinct, epochs }: Tally): CachedAnswers {
  const { operation, allowTokens } = options
  return new CachedAnswers(vault, {
    operation,
    allowTokens,
    // The epoch may be rotated meanwhile: the next values that are asked for show it.
    keptMs: Number.POSITIVE_INFINITY,
    epochs,
    answered: (value, { text }) => {
      distinct.addValue(value ?? '')
      if (operation === 'detokenize' && text !== null) epochs.add(epochOf(String(value)) ?? 0)
    },
  })
}

/** Makes the new text of a row, and counts. */
function rewriterOf(
  { file, options }: ColumnContext,
  { column, tally }: ColumnFunction,
): (value: Scalar, answer: Answer | null) => string | null {
  const { operation } = options
  const isTyped = operation === 'detokenize' && file.originals.has(column.name)
  return (value, answer) => {
    if (answer === null) return null
    tally.values++
    const { text, isAsked } = answer
    if (text !== null) {
      if (text !== value) tally.replaced++
      return text
    }
    if (isAsked) tally.notFound++
    else if (isTyped) tally.lost++
    return isTyped || (isAsked && operation === 'detokenize') ? null : textOf(value)
  }
}

/** Bytes of rows, and rows, whose values are asked for before the conversion. */
const AHEAD_BYTES = 64 * 1024 * 1024
const AHEAD_ROWS = 1_000_000
/** More different values are not asked for ahead: they would not be kept until their rows come. */
const AHEAD_VALUES = 250_000
/** Values of the first request, as many as a call has: their answers may be long. */
const FIRST_VALUES = 2_048

type Ahead = {
  readonly column: Column
  readonly argument: string
  readonly answers: CachedAnswers
}

/**
 * The function has 2,048 values a call, and each call waits for its answer. So the different values of the
 * first rows are asked for together, unless they are too many to keep.
 */
export async function askAhead(
  { duckdb, connection, file }: ColumnContext,
  { column, argument, answers }: Ahead,
): Promise<void> {
  const rows = Math.min(AHEAD_ROWS, Math.floor(AHEAD_BYTES / Math.max(1, file.rowBytes)))
  const found = await connection.run(
    `SELECT DISTINCT ${argument} FROM (SELECT * FROM ${file.source} LIMIT ${rows}) LIMIT ${AHEAD_VALUES + 1}`,
  )
  if (found.rowCount > AHEAD_VALUES) return
  const values: Scalar[] = []
  try {
    for (;;) {
      const chunk = await found.fetchChunk()
      if (!chunk || chunk.rowCount === 0) break
      values.push(...readScalars(duckdb, chunk.getColumnVector(0), chunk.rowCount))
    }
    let hasRoom = true
    for (let from = 0, to = FIRST_VALUES; hasRoom && from < values.length; from = to, to *= 2)
      hasRoom = await answers.ahead(values.slice(from, to))
  } catch (error) {
    throw inColumn(error, column.name)
  }
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
