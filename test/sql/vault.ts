// A vault in a process of its own, for SQL: the functions of SQL block the process of the test.
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Coffer } from '../../src/client/index.ts'
import type { VaultAddress } from '../../src/duckdb/vault-thread.ts'
import { Folder, init, NodeProcess } from '../cli/cli.ts'

export type SqlVault = AsyncDisposable & {
  readonly folder: Folder
  readonly node: NodeProcess
  readonly address: VaultAddress
  readonly client: Coffer
  /** A client of another owner. */
  readonly other: Coffer
  /** The environment of commands of the first owner, and of the other. */
  readonly env: Readonly<Record<string, string>>
  readonly otherEnv: Readonly<Record<string, string>>
}

export async function startSqlVault(): Promise<SqlVault> {
  const folder = new Folder()
  const keys = await init(folder.file('v'), '--port', '0', '--owner', 'a', '--owner', 'b')
  const node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const address = { urls: node.url, key: keys.a }
  const client = new Coffer(address)
  const other = new Coffer({ urls: node.url, key: keys.b })
  return {
    folder,
    node,
    address,
    client,
    other,
    env: { COFFER_URL: node.url, COFFER_KEY: keys.a },
    otherEnv: { COFFER_URL: node.url, COFFER_KEY: keys.b },
    async [Symbol.asyncDispose]() {
      client.close()
      other.close()
      await node[Symbol.asyncDispose]()
      folder[Symbol.dispose]()
    },
  }
}

/** Opens an epoch by a command, from a function that cannot wait for a promise. */
export function rotateBlocking({ env }: SqlVault, to: number): void {
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const own = { ...process.env, ...env }
  execFileSync(process.execPath, [main, 'epoch', 'rotate', '--to', String(to)], { env: own, stdio: 'pipe' })
}
