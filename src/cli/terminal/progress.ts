// The progress of a long command, on stderr and on a terminal only: a bar with rate and time left where the
// total is known, a counter elsewhere.
import type { Writable } from 'node:stream'
import type { SingleBar, TimeFormatter } from 'cli-progress'
import { note } from './terminal.ts'

const EVERY_MS = 100

type ProgressOptions = {
  /** The activity, such as `restoring`. */
  readonly label: string
  readonly unit: string
  readonly total?: number
}

type Progress = {
  /** Cheap enough for a call per entry. */
  show(done: number, label?: string): void
  /** Writes a line to stderr while the progress is shown. */
  note(text: string): void
  /** Clears the line of the progress; required before other output. */
  end(): void
}

type Terminal = Writable & { readonly isTTY?: boolean }

export async function startProgress(
  options: ProgressOptions,
  stream: Terminal = process.stderr,
): Promise<Progress> {
  if (!stream.isTTY) return { show: () => undefined, note, end: () => undefined }
  // Loaded only for a terminal: most commands show no progress.
  const { default: cliProgress } = await import('cli-progress')
  const { TimeFormat } = cliProgress.Format
  const formatTime: TimeFormatter = (seconds, ...rest) =>
    Number.isFinite(Number(seconds)) ? TimeFormat(seconds, ...rest) : '?'
  const bar = new cliProgress.SingleBar({
    format:
      options.total === undefined
        ? '{label}: {value} {unit}'
        : '{label} [{bar}] {percentage} %, {value} of {total} {unit}, {rate} {unit}/s, {eta_formatted} left',
    stream,
    formatTime,
    fps: 1000 / EVERY_MS,
    barsize: 20,
    // The time left is computed from the last 100 values shown: 10 s.
    etaBuffer: 100,
    clearOnComplete: true,
    // Cuts the line at the terminal's width, without escape codes left over by an interrupted command.
    linewrap: true,
  })
  return new BarProgress(bar, options)
}

class BarProgress implements Progress {
  readonly #bar: SingleBar
  readonly #options: ProgressOptions
  readonly #began = performance.now()
  #next = 0
  #done = 0

  constructor(bar: SingleBar, options: ProgressOptions) {
    this.#bar = bar
    this.#options = options
    this.#start(options.label, 0)
  }

  show(done: number, label = this.#options.label): void {
    this.#done = done
    const now = performance.now()
    if (now < this.#next) return
    this.#next = now + EVERY_MS
    const rate = Math.round((done * 1000) / Math.max(now - this.#began, 1))
    this.#bar.update(done, { label, rate })
  }

  note(text: string): void {
    // The bar saves the cursor's position when it starts and returns there when it stops.
    this.#bar.stop()
    note(text)
    this.#start(this.#options.label, this.#done)
  }

  end(): void {
    this.#bar.stop()
  }

  #start(label: string, done: number): void {
    const { unit, total = 0 } = this.#options
    this.#bar.start(total, done, { label, unit, rate: 0 })
  }
}
