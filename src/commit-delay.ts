// Work that is shared by those who wait for it: callers that have just been answered are soon followed by more of the same.
// Where an answer takes long, one for all of them costs less than one for each that comes first: so the next one waits
// for as many as were seen, as long as the last one took, and not at all where that is less than a timer can measure.

const MS = { least: 2, most: 10 }

export class Gathering {
  readonly #release: () => void
  #expected: { readonly callers: number; readonly timer: NodeJS.Timeout } | undefined

  /** `release` is called when nobody else is waited for. */
  constructor(release: () => void) {
    this.#release = release
  }

  /** Whether more than those who wait are expected. */
  expectsMore(waiting: number): boolean {
    return waiting < (this.#expected?.callers ?? 0)
  }

  /** The work has been answered, to so many callers, in `took` milliseconds; others wait already. */
  answered(callers: number, waiting: number, took: number): void {
    if (took < MS.least || callers + waiting < 2) return
    this.end()
    const release = (): void => {
      this.end()
      this.#release()
    }
    this.#expected = { callers: callers + waiting, timer: setTimeout(release, Math.min(MS.most, took)) }
  }

  /** The next work begins, or none does any more. */
  end(): void {
    clearTimeout(this.#expected?.timer)
    this.#expected = undefined
  }
}
