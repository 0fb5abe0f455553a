// The services on an open replica, and the sweeping of receipts in the background.
import type { Clock } from '../clock.ts'
import type { Keyring } from '../crypto/keyring.ts'
import { type RewrapOptions, rewrapKeys, WrappedKeys } from '../keys/rewrap.ts'
import type { Logger } from '../log.ts'
import type { Replica } from '../replica/replica.ts'
import { Receipts } from '../secrets/receipts.ts'
import { SecretService } from '../secrets/secrets.ts'
import { TokenService } from '../tokens/tokens.ts'

/** The mean pause between two sweeps of receipts. */
const SWEEP_MS = 3600_000

export type NodeServices = {
  readonly replica: Replica
  readonly tokens: TokenService
  readonly secrets: SecretService
  readonly receipts: Receipts
  readonly wrappedKeys: WrappedKeys
  /** As `rewrapKeys`. */
  readonly rewrap: (options: RewrapOptions) => ReturnType<typeof rewrapKeys>
}

/** `keyring` returns the keyring in force. */
export function makeServices(replica: Replica, keyring: () => Keyring, clock: Clock): NodeServices {
  return {
    replica,
    tokens: new TokenService(replica, keyring, clock),
    secrets: new SecretService(replica, keyring, clock),
    receipts: new Receipts(replica, keyring, clock),
    wrappedKeys: new WrappedKeys(replica.state),
    rewrap: (options) => rewrapKeys({ replica, keyring, clock }, options),
  }
}

type SweepOptions = {
  /** Ends a sweep between two commits. */
  readonly stop: AbortController
  readonly clock: Clock
  readonly log: Logger
  /** Called when a sweep fails: the node ends. */
  readonly fail: (error: Error) => void
}

/** Sweeps old receipts about hourly, with jitter, so that nodes rarely sweep together. Returns the closer. */
export function sweepReceipts(
  { receipts }: NodeServices,
  { clock, log, fail, stop }: SweepOptions,
): () => Promise<void> {
  let sweeping: Promise<void> | undefined
  const sweep = async (): Promise<void> => {
    const count = await receipts.sweep(stop.signal)
    if (count > 0) log.info({ count }, 'old receipts of Idempotency-Keys removed')
  }
  const pause = SWEEP_MS * (0.5 + clock.random(1)[0] / 256)
  const timer = setInterval(() => {
    sweeping ??= sweep()
      .catch(fail)
      .finally(() => {
        sweeping = undefined
      })
  }, pause)
  return async () => {
    clearInterval(timer)
    await sweeping
  }
}
