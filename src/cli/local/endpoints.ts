// The endpoints of a shared ledger, asked one by one before a command reads or fills the ledger: all that
// answer must lead to one cluster of etcd and to one ledger.
import { OperatorError } from '../../errors.ts'
import { LedgerUnavailable } from '../../ledger/ledger.ts'
import type { Config } from '../../node/config.ts'

/** undefined: the endpoint does not say. `ledger`: an identity, or `without genesis`. */
type Lead = { readonly cluster: string | undefined; readonly ledger: string | undefined }

/**
 * Two clusters can hold the same ledger, as after a copy of its files, and two empty ledgers differ by their
 * cluster alone: cluster and ledger are compared. An endpoint without an answer is left out. Throws
 * OperatorError that names where each endpoint leads.
 */
export async function checkEndpoints(config: Config): Promise<void> {
  const { endpoints } = config.ledger
  const leads = await Promise.all(endpoints.map((endpoint) => leadOf(config, endpoint)))
  const differ = (member: keyof Lead): boolean =>
    new Set(leads.map((lead) => lead[member]).filter((each) => each !== undefined)).size > 1
  if (!differ('cluster') && !differ('ledger')) return
  const told = endpoints.map((endpoint, i) => `${endpoint}: ${textOf(leads[i])}`).join(', ')
  throw new OperatorError(`the endpoints in ${config.file} lead to different ledgers (${told})`, {
    hint: 'correct ledger.endpoints',
  })
}

function textOf({ cluster, ledger }: Lead): string {
  if (cluster === undefined) return 'no answer'
  return `cluster ${cluster}, ledger ${ledger ?? 'without an answer'}`
}

async function leadOf(config: Config, endpoint: string): Promise<Lead> {
  const { Membership, MembershipError } = await import('../../node/membership.ts')
  const membership = new Membership({ ...config.ledger, endpoints: [endpoint] })
  try {
    const cluster = await membership.clusterId()
    return { cluster, ledger: await identityAt(config, endpoint) }
  } catch (error) {
    if (error instanceof MembershipError) return { cluster: undefined, ledger: undefined }
    throw error
  } finally {
    membership.close()
  }
}

async function identityAt(config: Config, endpoint: string): Promise<string | undefined> {
  const [{ openLedgerToRead }, { readIdentity }] = await Promise.all([
    import('../../server/open.ts'),
    import('../../backup/backup.ts'),
  ])
  const { member: _, ...settings } = config.ledger
  const only = { ...config, ledger: { ...settings, endpoints: [endpoint] } }
  const ledger = await openLedgerToRead(only, true)
  try {
    return (await readIdentity(ledger)) ?? 'without genesis'
  } catch (error) {
    if (error instanceof LedgerUnavailable) return undefined
    throw error
  } finally {
    await ledger.close()
  }
}
