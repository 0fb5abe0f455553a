// Where a client's command connects to: COFFER_URL and COFFER_KEY. The key is never an argument: those are
// seen by every user of the machine, and stay in the shell's history.
import { Coffer, CofferError } from '../../client/index.ts'
import { UsageError } from '../../errors.ts'

const DEFAULT_URL = 'http://127.0.0.1:8200'

export const ENVIRONMENT = `
Environment:
  COFFER_URL  the node's address, or several separated by commas (default ${DEFAULT_URL})
  COFFER_KEY  the API key; it decides the owner
  NODE_EXTRA_CA_CERTS  a PEM file, where the nodes' certificates are of an authority of your own`

/** More than the 5 s in which a node without quorum answers. */
const TIMEOUT_MS = 7_000

/** The addresses of COFFER_URL. Throws OperatorError where there is none. */
export function urls(): string[] {
  const list = (process.env.COFFER_URL || DEFAULT_URL).split(',').map((url) => url.trim())
  const some = list.filter((url) => url !== '')
  if (some.length === 0) throw new UsageError('COFFER_URL names no address')
  return some
}

/** A client of these addresses. Throws OperatorError where the environment is not as it should be. */
export function connect(addresses: readonly string[], timeoutMs = TIMEOUT_MS): Coffer {
  const key = process.env.COFFER_KEY
  if (!key) {
    throw new UsageError(
      'COFFER_KEY is not set: export the API key that `coffer init` or `coffer keys add` has printed',
    )
  }
  try {
    return new Coffer({ urls: addresses, key, timeoutMs })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new UsageError(`COFFER_URL or COFFER_KEY cannot be used: ${error.message}`)
  }
}

/** Runs `work` with a client of COFFER_URL and closes it. */
export async function withClient<T>(work: (coffer: Coffer) => Promise<T>): Promise<T> {
  const coffer = connect(urls())
  try {
    return await work(coffer)
  } finally {
    coffer.close()
  }
}

/** What a node says of an instant that was given as `--at` is about how the command is used. */
export function explainAt(error: unknown): unknown {
  if (!(error instanceof CofferError) || error.members.path !== 'at') return error
  return new UsageError(`--at: ${error.detail}; it must be one like 2026-01-31T12:00:00Z, not in the future`)
}
