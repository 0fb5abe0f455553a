// DuckDB with a vault, for programs: `import { recover } from 'coffer/duckdb'`.
//
//   const coffer = new Coffer({ urls: 'http://127.0.0.1:8200', key: process.env.COFFER_KEY ?? '' })
//   await recover(connection, { table: 'patients', columns: ['ssn'], client: coffer })
//   await connection.run('SELECT ssn FROM patients_recovered')
import type { DuckDBConnection } from '@duckdb/node-api'
import { OwnErrors } from './faults.ts'
import { checkMacros, registerFunctions } from './functions.ts'
import { loadDuckDB } from './package.ts'
import { BlockingVault, type VaultAddress } from './vault-thread.ts'

export { type Recovered, type RecoverOptions, recover } from './recover.ts'
export { VaultError } from './vault-thread.ts'
export type { VaultAddress }

export type RegisteredVault = {
  /** Values not found by the functions so far; NULL in results. */
  readonly notFound: number
  /** Ends the thread of the client; a later call of a function starts another. */
  close(): Promise<void>
}

/**
 * A query with the functions blocks the whole process until the end of the query; servers use `recover`.
 *
 * Registers `tokenize`, `detokenize`, `retokenize` and `token_epoch` for all connections of the instance.
 * Throws TypeError for a malformed address, OperatorError where a database has a macro with such a name.
 */
export async function registerVault(
  connection: DuckDBConnection,
  address: VaultAddress,
): Promise<RegisteredVault> {
  const duckdb = await loadDuckDB()
  await checkMacros(connection)
  const vault = new BlockingVault(address)
  const counts = registerFunctions({ duckdb, connection, vault, own: new OwnErrors() })
  return {
    get notFound() {
      return counts.notFound
    },
    close: () => vault.close(),
  }
}
