// The delay before a group commit, after PostgreSQL (commit_delay, commit_siblings): a caller that was just
// answered soon asks again. After a slow round trip the next group is held back until as many callers as last
// time have joined, at most as long as the last round trip. A round trip shorter than a timer can measure
// causes no delay. PostgreSQL's settings are fixed numbers; here both are measured, since a local disk and a
// cluster differ a hundredfold.

/** Shorter round trips are not worth a timer; longer delays gain nothing. */
const ROUND_TRIP_MS = { min: 2, max: 10 }

export class CommitDelay {
  readonly #release: () => void
  #expected: { readonly callers: number; readonly timer: NodeJS.Timeout } | undefined

  /** `release` is called when the wait for more callers has ended. */
  constructor(release: () => void) {
    this.#release = release
  }

  /** Whether more than `waiting` callers are expected. */
  expectsMore(waiting: number): boolean {
    return waiting < (this.#expected?.callers ?? 0)
  }

  /** A group of `callers` was answered after `roundTripMs`; `waiting` others wait already. */
  answered(callers: number, waiting: number, roundTripMs: number): void {
    if (roundTripMs < ROUND_TRIP_MS.min || callers + waiting < 2) return
    this.end()
    const release = (): void => {
      this.end()
      this.#release()
    }
    const timer = setTimeout(release, Math.min(ROUND_TRIP_MS.max, roundTripMs))
    this.#expected = { callers: callers + waiting, timer }
  }

  /** Ends the wait: the next group is sent, or no other group comes. */
  end(): void {
    clearTimeout(this.#expected?.timer)
    this.#expected = undefined
  }
}
