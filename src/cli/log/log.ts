// coffer log: the event logs of nodes as one timeline.
import { once } from 'node:events'
import { realpathSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { UsageError } from '../../errors.ts'
import { nextTurn } from '../../waiting.ts'
import { isStandardOutput } from '../terminal/output.ts'
import { counted, note } from '../terminal/terminal.ts'
import { findLogs } from './files.ts'
import { type FilterOptions, filterOf, isShown } from './filter.ts'
import { writeTimeline } from './html.ts'
import type { LogEvent } from './line.ts'
import { merged, mergedInTurns } from './merge.ts'
import { LogSource } from './source.ts'
import { lineFormatter } from './text.ts'

/** Between two looks at files that are followed. */
const FOLLOW_MS = 200
/** Between two searches for logs of nodes that came later, in looks at files. */
const ROUNDS_A_SEARCH = 5
/** Characters that are written at once. */
const OUTPUT_CHARS = 64 * 1024

type Options = FilterOptions & {
  readonly follow?: boolean
  readonly json?: boolean
  readonly html?: string
  readonly force?: boolean
}

export function registerLog(program: Command): void {
  const several = (text: string, before: readonly string[] = []): string[] => [...before, text]
  program
    .command('log')
    .description("show the nodes' event logs as one timeline")
    .argument('<file|dir...>', 'event logs, data directories, or the directory of a vault')
    .option('--owner <owner>', 'only events of this owner')
    .option('--event <event>', 'only events of this name; may be repeated', several)
    .option('--since <time>', 'only events at or after an instant, 2026-01-31T12:00:00Z')
    .option('--until <time>', 'only events before an instant')
    .option('--follow', 'go on with what the nodes write, until Ctrl-C')
    .option('--json', 'print the lines of the logs, unchanged')
    .option('--html <out>', 'write the timeline as a page, for a browser, without a server')
    .option('--force', 'overwrite an existing file')
    .addHelpText(
      'after',
      `
Events stand in the order of the ledger's revisions, then of their times; events without a revision
stand at their time. Lines that are not events are told on stderr, and passed over.

Example:
  $ coffer log ./vault
  $ coffer log ./vault --event epoch.rotated --event ledger.lost --since 2026-01-31T12:00:00Z
  $ coffer log ./vault --html timeline.html`,
    )
    .action(log)
}

async function log(paths: string[], options: Options): Promise<void> {
  const filter = filterOf(options)
  if (options.html !== undefined) return page(paths, { ...options, html: options.html })
  if (options.force) throw new UsageError('--force is for --html', { hint: 'leave it out' })
  const keep = (event: LogEvent): boolean => isShown(filter, event)
  const format = lineFormatter()
  const write = options.json ? unchanged : (event: LogEvent): Buffer => Buffer.from(`${format(event)}\n`)
  if (options.follow) return followLogs({ paths, keep, write })
  const places = findLogs(paths)
  const damage = new Damages()
  const sources = places.map((place) => new LogSource({ place, keep, follow: false, damaged: damage.tell }))
  try {
    await output(merged(sources), write)
  } finally {
    for (const source of sources) source.close()
    damage.end()
  }
}

/** Throws OperatorError, UsageError. */
async function page(paths: string[], options: Options & { readonly html: string }): Promise<void> {
  const { html: out, force = false, follow, json } = options
  if (follow || json)
    throw new UsageError(`--html does not go with ${follow ? '--follow' : '--json'}`, {
      hint: 'run the command once for each',
    })
  const damage = new Damages()
  const { events } = await writeTimeline({
    paths,
    out,
    force,
    filter: filterOf(options),
    damaged: damage.tell,
  })
  damage.end()
  const where = isStandardOutput(out) ? 'stdout' : out
  const holds = `${counted(events, 'event')} in ${where}, with names of secrets and addresses`
  note(`${holds}: open the page in a browser`)
}

const NEWLINE = Buffer.from('\n')
const unchanged = ({ bytes }: LogEvent): Buffer => Buffer.concat([bytes, NEWLINE])

type Follow = {
  readonly paths: readonly string[]
  readonly keep: (event: LogEvent) => boolean
  readonly write: (event: LogEvent) => Buffer
}

/** Resolves at SIGINT or SIGTERM. */
async function followLogs({ paths, keep, write }: Follow): Promise<void> {
  const damage = new Damages()
  const stop = new AbortController()
  const end = (): void => stop.abort()
  process.once('SIGINT', end).once('SIGTERM', end)
  const sources = new Map<string, LogSource>()
  try {
    for (let round = 0; !stop.signal.aborted; round++) {
      if (round % ROUNDS_A_SEARCH === 0) {
        for (const place of findLogs(paths, { mayCome: true })) {
          const path = realpathSync(place.path)
          if (!sources.has(path))
            sources.set(path, new LogSource({ place, keep, follow: true, damaged: damage.tell }))
        }
      }
      if (round === 0 && sources.size === 0) note('no event log yet: waiting for the first start of a node')
      for (const source of sources.values()) source.again()
      await output(mergedInTurns([...sources.values()]), write, stop.signal)
      await sleep(FOLLOW_MS, undefined, { signal: stop.signal }).catch(() => {})
    }
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end)
    for (const source of sources.values()) source.close()
    damage.end()
  }
}

/** Writes in parts, no faster than the reader of stdout reads. Between the parts a signal can come. */
async function output(
  events: Iterable<LogEvent | undefined>,
  write: (event: LogEvent) => Buffer,
  signal?: AbortSignal,
): Promise<void> {
  let part: Buffer[] = []
  let length = 0
  const flush = async (): Promise<void> => {
    if (part.length > 0 && !process.stdout.write(Buffer.concat(part)))
      await once(process.stdout, 'drain', signal && { signal }).catch(() => {})
    else await nextTurn()
    part = []
    length = 0
  }
  for (const event of events) {
    if (signal?.aborted) break
    if (event !== undefined) length += part[part.push(write(event)) - 1].length
    if (event === undefined || length > OUTPUT_CHARS) await flush()
  }
  await flush()
}

/** Damaged lines: the first ones each by a message, all by their number. */
class Damages {
  #count = 0

  readonly tell = ({ file, line, reason }: { file: string; line: number; reason: string }): void => {
    if (++this.#count <= MOST_TOLD) note(`${file}:${line}: ${reason}; passed over`)
  }

  end(): void {
    if (this.#count > MOST_TOLD) note(`${counted(this.#count, 'line')} passed over in all`)
  }
}

const MOST_TOLD = 20
