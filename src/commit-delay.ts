// An adaptive delay before a group commit, as PostgreSQL has it (commit_delay, commit_siblings): a caller that has just
// been answered soon asks again. After a slow round trip the next group is held back until as many callers as last time
// have joined, at most as long as that round trip took, and never where the round trip is shorter than a timer can
// measure. Fixed settings as PostgreSQL's would fit one disk or one network.

/** Round trips that are shorter are not worth a timer; longer waits gain nothing. */
const ROUND_TRIP_MS = { min: 2, max: 10 }

export class CommitDelay {
  readonly #release: () => void
  #expected: { readonly callers: number; readonly timer: NodeJS.Timeout } | undefined

  /** `release` is called when the wait for more callers has ended. */
  constructor(release: () => void) {
    this.#release = release
  }

  /** Whether more callers are expected than the `waiting` ones. */
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
