// Instances of DuckDB without files of their own, and without extensions.
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { FatalError, OperatorError } from '../errors.ts'
import type { DuckDB } from './package.ts'

/** No spill: its files would hold values in clear. No extension from the network. */
const CONFIG = {
  temp_directory: '',
  autoinstall_known_extensions: 'false',
  autoload_known_extensions: 'false',
}

type Settings = { readonly file: string; readonly config?: Readonly<Record<string, string>> }

/** Throws OperatorError. */
export async function openConnection(
  duckdb: DuckDB,
  { file, config = {} }: Settings,
): Promise<{ readonly instance: DuckDBInstance; readonly connection: DuckDBConnection }> {
  try {
    const instance = await duckdb.DuckDBInstance.create(file, { ...CONFIG, ...config })
    return { instance, connection: await instance.connect() }
  } catch (error) {
    throw toOperatorError(error)
  }
}

/** An error of DuckDB for a person, without values; other errors as they are. */
export function toOperatorError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof OperatorError || error instanceof FatalError) return error
  if (error.constructor !== Error) return error // a fault of ours, such as a TypeError
  return new OperatorError(withoutValues(error.message), { cause: error })
}

/**
 * Messages of our functions stand behind `Invalid Input Error: `. Messages of conversions quote the value;
 * the lines from `LINE 1:` on quote the statement.
 */
function withoutValues(message: string): string {
  const ours = /^Invalid Input Error: ([\s\S]*)$/.exec(message)?.[1]
  if (ours !== undefined) return ours
  const [head, ...rest] = message.split('\n\nLINE ')
  if (!/^(?:Conversion|Invalid|Out of Range)/.test(head)) return message
  return [head.replace(/'[\s\S]*'|"[\s\S]*"/, '…'), ...rest].join('\n\nLINE ')
}
