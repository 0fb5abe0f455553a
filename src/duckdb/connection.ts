// Instances of DuckDB without files of their own, and without extensions.
import { resolve } from 'node:path'
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { toOperatorError } from './faults.ts'
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
    throw toOperatorError(error, { known: `${file} ${resolve(file)}` })
  }
}
