// The part `ndjson` of the suite `files`: gigabytes of JSON lines, made on the fly, through pipes and never on the disk.
// Every byte that comes out is compared.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Coffer } from '../src/client/index.ts'
import type { Bench } from './bench.ts'
import { type CommandRun, startCommand } from './files-command.ts'
import { content, lineTable, type Table, valueFields, valueText } from './files-data.ts'
import { format } from './table.ts'
import { atRandom } from './values.ts'
import { apiKey, Vault } from './vault.ts'

const OWNER = 'bench'
const BYTES = 5e9
const LINE_BYTES = 500
const DISTINCT = 100_000
const BATCH = 20_000
const MEGABYTE = 1e6
const TOKEN_BYTES = 38
const TOKEN = /^tok_1_[0-9a-hjkmnp-tv-z]{32}$/

export async function measureNdjson(bench: Bench): Promise<void> {
  const rows = Math.round((BYTES * bench.size) / LINE_BYTES)
  const dir = join(bench.dir, 'ndjson')
  mkdirSync(dir)
  const vault = new Vault(join(dir, 'vault'), [OWNER], bench.flags)
  await vault.start()
  try {
    const values = lineTable(rows, valueFields(DISTINCT))
    const visits = Buffer.allocUnsafeSlow(rows * TOKEN_BYTES)
    const order = atRandom(DISTINCT)
    const ssns = await tokensOf(vault)
    const tokens = lineTable(rows, {
      ssn: (out, at, row) => at + out.write(ssns[order(row)], at, 'latin1'),
      visit: (out, at, row) => at + visits.copy(out, at, row * TOKEN_BYTES, (row + 1) * TOKEN_BYTES),
    })
    const run = (operation: string, from: Table, check: Check): Promise<Streamed> =>
      stream([operation, '-'], { vault, peakFile: join(dir, 'peak'), from, check })
    bench.say(`files: ${format(rows)} lines`)
    report(bench, 'tokenize', rows, await run('tokenize', values, takingVisits(tokens, visits)))
    report(bench, 'detokenize', rows, await run('detokenize', tokens, comparing(values)))
  } finally {
    await vault.remove()
    rmSync(dir, { recursive: true })
  }
}

/** The tokens of the values of `ssn`. */
async function tokensOf({ url }: Vault): Promise<readonly string[]> {
  const coffer = new Coffer({ urls: url, key: apiKey(OWNER) })
  const found: string[] = []
  while (found.length < DISTINCT) {
    const values = Array.from({ length: BATCH }, (_, i) => valueText(found.length + i))
    for (const token of (await coffer.tokenize(values)).tokens) found.push(String(token))
  }
  coffer.close()
  return found
}

/** Called with whole lines. Throws where a line is not the right one. */
type Check = { readonly line: (bytes: Buffer, start: number, end: number) => void; readonly end: () => void }

/** Compares each line with that of the table. */
function comparing(
  { rows, rowBytes, write }: Table,
  before?: (bytes: Buffer, start: number, row: number) => void,
): Check {
  const expected = Buffer.alloc(rowBytes)
  let row = 0
  return {
    line: (bytes, start, end) => {
      before?.(bytes, start, row)
      const length = write(expected, 0, row)
      if (end - start !== length || expected.compare(bytes, start, end, 0, length) !== 0)
        throw new Error(`line ${row} is ${bytes.toString('latin1', start, Math.min(end, start + 150))}`)
      row++
    },
    end: () => {
      if (row !== rows) throw new Error(`there are ${row} lines of ${rows}`)
    },
  }
}

const BEFORE_VISIT = '"},"visit":"'

/** As `comparing`; the token of `visit`, which nobody knows yet, is taken out of the line. */
function takingVisits(tokens: Table, visits: Buffer): Check {
  return comparing(tokens, (bytes, start, row) => {
    const at = bytes.indexOf(BEFORE_VISIT, start, 'latin1') + BEFORE_VISIT.length
    bytes.copy(visits, row * TOKEN_BYTES, at, at + TOKEN_BYTES)
    if (!TOKEN.test(visits.toString('latin1', row * TOKEN_BYTES, (row + 1) * TOKEN_BYTES)))
      throw new Error(`line ${row} has no token of its visit`)
  })
}

type Streamed = CommandRun & { readonly bytes: number }

type Streaming = {
  readonly vault: Vault
  readonly peakFile: string
  readonly from: Table
  readonly check: Check
}

/** Runs a command over the content of a table, by stdin and stdout. */
async function stream(
  args: readonly string[],
  { vault, peakFile, from, check }: Streaming,
): Promise<Streamed> {
  const columns = ['--column', 'patient.ssn', '--column', 'visit']
  const { child, done } = startCommand([...args, ...columns, '--format', 'ndjson', '--json'], {
    address: { url: vault.url, owner: OWNER },
    peakFile,
    isPiped: true,
  })
  const { stdin, stdout } = child
  if (!stdin || !stdout) throw new Error('the command has pipes')
  const [bytes, , ended] = await Promise.all([fed(from, stdin), checked(stdout, check), done])
  return { ...ended, bytes }
}

/** Returns the bytes written. */
async function fed(table: Table, to: Writable): Promise<number> {
  let bytes = 0
  async function* counted(): AsyncGenerator<Buffer> {
    for (const part of content(table)) {
      bytes += part.length
      yield part
    }
  }
  await pipeline(Readable.from(counted(), { highWaterMark: 1 }), to)
  return bytes
}

async function checked(from: Readable, { line, end }: Check): Promise<void> {
  let rest = Buffer.alloc(0)
  for await (const part of from) {
    const bytes = rest.length === 0 ? part : Buffer.concat([rest, part])
    let start = 0
    for (let feed = bytes.indexOf(0x0a); feed >= 0; feed = bytes.indexOf(0x0a, start)) {
      line(bytes, start, feed + 1)
      start = feed + 1
    }
    rest = bytes.subarray(start)
  }
  if (rest.length > 0) throw new Error('the last line has no end')
  end()
}

function report(
  bench: Bench,
  operation: string,
  rows: number,
  { seconds, peak, bytes, told }: Streamed,
): void {
  bench.say(`files: ${operation}: ${told}`)
  bench.rows.push({
    what: `${operation} ${format(bytes / 1e9)} GB of JSON lines through pipes: the most memory`,
    value: peak.bytes / MEGABYTE,
    unit: 'MB',
    rowsPerSecond: rows / seconds,
    clientCpu: peak.cpuSeconds / seconds,
    aim: { most: 400 },
    note: `${format(seconds)} s, ${format(bytes / MEGABYTE / seconds)} MB/s`,
  })
}
