// What a node serves once its replica is open: the two services on it, and what is done for both in the background.
import type { Clock } from '../clock.ts'
import type { Keyring } from '../crypto/keyring.ts'
import { rewrapKeys, WrappedKeys } from '../keys/rewrap.ts'
import type { Logger } from '../log.ts'
import type { Replica } from '../replica/replica.ts'
import { Receipts } from '../secrets/receipts.ts'
import { SecretService } from '../secrets/secrets.ts'
import { TokenService } from '../tokens/tokens.ts'

/** How often old receipts are looked for, on average. */
const SWEEP_MS = 3600_000

export type Vault = {
  readonly replica: Replica
  readonly tokens: TokenService
  readonly secrets: SecretService
  readonly receipts: Receipts
  readonly wrapped: WrappedKeys
  /** Throws UnwrapError, LedgerUnavailable, UnknownOutcome. */
  readonly rewrap: () => ReturnType<typeof rewrapKeys>
}

export function makeVault(replica: Replica, keyring: () => Keyring, clock: Clock): Vault {
  return {
    replica,
    tokens: new TokenService(replica, keyring, clock),
    secrets: new SecretService(replica, keyring, clock),
    receipts: new Receipts(replica, keyring, clock),
    wrapped: new WrappedKeys(replica.state),
    rewrap: () => rewrapKeys(replica, keyring, clock),
  }
}

/** As the keyring file asks. A failure is told and changes nothing else: the next reload or start tries again. */
export async function rewrapAll(vault: Vault, log: Logger): Promise<void> {
  try {
    log.info(await vault.rewrap(), 'keys wrapped by the active root key')
  } catch (error) {
    log.warn({ error: error instanceof Error ? error.message : String(error) }, 'rewrapping has failed')
  }
}

/** At every node, somewhere in the hour, so that seldom two do it at once. Returns what ends it. */
export function sweepReceipts(
  { receipts }: Vault,
  clock: Clock,
  log: Logger,
  failed: (error: Error) => void,
): () => Promise<void> {
  let sweeping: Promise<void> = Promise.resolve()
  const sweep = async (): Promise<void> => {
    const count = await receipts.sweep()
    if (count > 0) log.info({ count }, 'old receipts of Idempotency-Keys removed')
  }
  const every = SWEEP_MS * (0.5 + clock.random(1)[0] / 256)
  const timer = setInterval(() => {
    sweeping = sweeping.then(sweep).catch(failed)
  }, every)
  return async () => {
    clearInterval(timer)
    await sweeping
  }
}
