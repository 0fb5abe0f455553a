// The nodes and the API key of a client's command: COFFER_URL, COFFER_KEY and COFFER_CA. The key is never an
// argument: every user of the machine sees arguments, and the shell's history keeps them.
import { readFileSync } from 'node:fs'
import { Coffer, CofferError } from '../../client/index.ts'
import { errorCode, UsageError } from '../../errors.ts'

const DEFAULT_URL = 'http://127.0.0.1:8200'

export const ENVIRONMENT = `
Environment:
  COFFER_URL  the node's address, or several separated by commas (default ${DEFAULT_URL})
  COFFER_KEY  the API key; it decides the owner
  COFFER_CA   a PEM file with the authority of the nodes' certificates, if it is your own`

/** Longer than the 5 s within which a node without quorum answers. */
const TIMEOUT_MS = 7_000

/** The addresses of COFFER_URL. Throws UsageError if there is no address. */
export function urls(): string[] {
  const list = (process.env.COFFER_URL || DEFAULT_URL).split(',').map((url) => url.trim())
  const addresses = list.filter((url) => url !== '')
  if (addresses.length === 0)
    throw new UsageError('COFFER_URL has no address', { hint: `set an address such as ${DEFAULT_URL}` })
  return addresses
}

type Address = { readonly urls: readonly string[]; readonly key: string; readonly ca?: string }

/** Nodes, key and authority, for a client in a thread. Throws UsageError where one of them is not valid. */
export function address(): Address {
  connect(urls()).close()
  return { urls: urls(), key: apiKey(), ...authority() }
}

function apiKey(): string {
  const key = process.env.COFFER_KEY
  if (key) return key
  throw new UsageError('COFFER_KEY is not set', {
    hint: 'export the API key that `coffer init` or `coffer keys add` has printed',
  })
}

/** A client of the addresses. Throws UsageError if COFFER_KEY or an address is not valid. */
export function connect(addresses: readonly string[], timeoutMs = TIMEOUT_MS): Coffer {
  const key = apiKey()
  try {
    return new Coffer({ urls: addresses, key, timeoutMs, ...authority() })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new UsageError(`COFFER_URL or COFFER_KEY is not valid: ${error.message}`)
  }
}

/** The PEM text of COFFER_CA; nothing where the system's authorities are meant. Throws UsageError. */
function authority(): { readonly ca?: string } {
  const file = process.env.COFFER_CA
  if (!file) return {}
  const hint = "name the PEM file with the authority of the nodes' certificates"
  let ca: string
  try {
    ca = readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`the file of COFFER_CA cannot be read (${errorCode(error)})`, { cause: error, hint })
  }
  if (!ca.includes('-----BEGIN CERTIFICATE-----'))
    throw new UsageError('the file of COFFER_CA has no certificate', { hint })
  return { ca }
}

/** Runs `work` with a client of COFFER_URL, and closes the client. */
export async function withClient<T>(
  work: (coffer: Coffer) => Promise<T>,
  timeoutMs = TIMEOUT_MS,
): Promise<T> {
  const coffer = connect(urls(), timeoutMs)
  try {
    return await work(coffer)
  } finally {
    coffer.close()
  }
}

/** Turns a node's refusal of the instant of `--at` into a UsageError. */
export function explainAt(error: unknown): unknown {
  if (!(error instanceof CofferError) || error.members.path !== 'at') return error
  return new UsageError(`--at: ${error.detail}`, {
    hint: 'use an instant such as 2026-01-31T12:00:00Z, not in the future',
  })
}
