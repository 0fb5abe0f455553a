// Warnings in the log of a node: configured fields without a match, certificates near their end, clocks that
// are wrong, a ledger filling up.
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { TokenCalls } from '../http/token-calls.ts'
import { FILLING, type Health } from '../ledger/ledger.ts'
import type { Config } from '../node/config.ts'
import type { RunningNode } from './running-node.ts'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
/** A certificate is warned of in the last days of its validity, once a day. */
const ENDING_MS = 30 * DAY_MS
/** An owner's latest version may lie so far ahead of the clock: clocks differ. */
const AHEAD_MS = MINUTE_MS
/** Ended keys that a warning names. */
const ENDED_NAMED = 10
/** Records without a match before a field is warned of. */
const RECORDS_BEFORE_WARNING = 100

export class Warnings {
  readonly #node: RunningNode
  readonly #calls: TokenCalls
  #unmatchedWarned = false
  #fillingWarned = false
  /** Monotonic time of the last look at the certificates. */
  #certificatesAt = Number.NEGATIVE_INFINITY
  /** Monotonic time of the next look at clocks. */
  #nextClockAt = Number.NEGATIVE_INFINITY

  constructor(node: RunningNode, calls: TokenCalls) {
    this.#node = node
    this.#calls = calls
  }

  /** A field without any match is probably misspelt, and its values stay in clear. Warns once. */
  unmatchedFields(): void {
    const { records } = this.#calls
    if (records < RECORDS_BEFORE_WARNING || this.#unmatchedWarned) return
    this.#unmatchedWarned = true
    for (const field of this.#calls.unmatched())
      this.#node.log.warn({ field, records }, 'a configured field has matched nothing in any record')
  }

  /** Warns once a day. */
  endingCertificates(): void {
    const { clock, config, log } = this.#node
    if (clock.monotonic() - this.#certificatesAt < DAY_MS) return
    this.#certificatesAt = clock.monotonic()
    for (const { file, warning } of endingCertificates(config, clock.now())) log.warn({ file }, warning)
  }

  /** A version of the future: some clock is far ahead, or the node's clock behind. Warns once a day. */
  wrongClock(): void {
    const { clock, log, owners, services } = this.#node
    if (!services || clock.monotonic() < this.#nextClockAt) return
    const latest = owners.reduce(
      (most, { id }) => Math.max(most, services.replica.owner(id)?.latest ?? 0),
      Number.NEGATIVE_INFINITY,
    )
    const ahead = latest - clock.now()
    this.#nextClockAt = clock.monotonic() + (ahead > AHEAD_MS ? DAY_MS : MINUTE_MS)
    if (ahead <= AHEAD_MS) return
    log.warn(
      { seconds: Math.round(ahead / 1000) },
      'a secret has a version of the future: the clock of a node is or was wrong; set clocks by NTP',
    )
  }

  /** Warns whenever the ledger begins to fill up. */
  filling({ used }: Health): void {
    const filling = used >= FILLING
    if (filling && !this.#fillingWarned)
      this.#node.log.warn({ used }, 'the ledger is filling: make room before it refuses new tokens')
    this.#fillingWarned = filling
  }
}

/** Warns of keys whose `until` has passed: such a key is unknown, as a removed one. */
export function warnOfEndedKeys({ clock, log, owners }: Pick<RunningNode, 'clock' | 'log' | 'owners'>): void {
  const now = clock.now()
  const ended = owners.flatMap(({ id: owner, keys }) =>
    keys.filter(({ until = now + 1 }) => until <= now).map(({ id }) => `${owner}/${id}`),
  )
  if (ended.length === 0) return
  const keys = ended.slice(0, ENDED_NAMED)
  log.warn({ keys, count: ended.length }, 'API keys have ended: remove them, or set a later `until`')
}

/**
 * The node's own certificates ending within 30 days of `now` or not yet valid, and unreadable certificates.
 */
export function endingCertificates(
  { tls, ledger }: Pick<Config, 'tls' | 'ledger'>,
  now: number,
): { readonly file: string; readonly warning: string }[] {
  const files = [tls?.cert, ledger.tls?.cert].filter((file) => file !== undefined)
  return files.flatMap((file) => {
    try {
      const { validFrom, validTo } = new X509Certificate(readFileSync(file))
      const [begin, end] = [Date.parse(validFrom), Date.parse(validTo)]
      if (begin > now)
        return [{ file, warning: `a certificate is not valid before ${new Date(begin).toISOString()}` }]
      if (end > now + ENDING_MS) return []
      const ends = end > now ? 'ends' : 'has ended'
      return [{ file, warning: `a certificate ${ends} at ${new Date(end).toISOString()}: renew it` }]
    } catch {
      return [{ file, warning: 'a certificate cannot be read' }]
    }
  })
}
