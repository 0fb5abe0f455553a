// Rows of results beside their floors and targets, as aligned text. Not the table of cli/terminal: columns of
// numbers are aligned to the right.
import type { Measured } from './load.ts'

/** A target. */
export type Aim = { readonly least: number } | { readonly most: number }

export type Row = {
  readonly what: string
  readonly batch?: number
  readonly value: number
  readonly unit: string
  /** Milliseconds. */
  readonly p50?: number
  readonly p99?: number
  /** The same work by less than a vault, in the same unit and run. */
  readonly floor?: { readonly name: string; readonly value: number }
  readonly aim?: Aim
  /** Of a file or a table. */
  readonly rowsPerSecond?: number
  /** The most memory of the process. */
  readonly peakMegabytes?: number
  /** Parts of a core. */
  readonly clientCpu?: number
  readonly nodeCpu?: number
  readonly etcdCpu?: number
  readonly othersCpu?: number
  readonly note?: string
}

export function rowOf(what: string, measured: Measured, more: Partial<Row> = {}, batch?: number): Row {
  const { perSecond, p50, p99, clientCpu, nodeCpu, etcdCpu, othersCpu } = measured
  const size = batch === undefined ? {} : { batch }
  const cpu = { clientCpu, nodeCpu, othersCpu, ...(etcdCpu === undefined ? {} : { etcdCpu }) }
  return { what, ...size, value: perSecond, unit: '/s', p50, p99, ...cpu, ...more }
}

export function isMet({ aim, value }: Row): boolean | undefined {
  if (!aim) return undefined
  return 'least' in aim ? value >= aim.least : value <= aim.most
}

/** Three figures, thousands with commas; small whole numbers in full. */
export function format(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (Number.isInteger(value) && value < 1000) return String(value)
  if (value >= 1000) return Math.round(Number(value.toPrecision(3))).toLocaleString('en-US')
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

const HEAD = [
  'what',
  'batch',
  'result',
  'rows/s',
  'memory',
  'p50',
  'p99',
  'floor',
  'of floor',
  'target',
  'met',
  'node',
  'etcd',
  'client',
  'others',
  '',
]

const ALIGN = 'lrrrrrrrrrlrrrrl'
/** Without a name. */
const NOTE = HEAD.length - 1

/** Columns in which no row has anything are left out. */
export function resultTable(rows: readonly Row[]): string {
  const all = rows.map(cells)
  const shown = HEAD.map((_, i) => i === NOTE || all.some((row) => row[i] !== ''))
  const only = <T>(list: readonly T[]): T[] => list.filter((_, i) => shown[i])
  return table([HEAD, ...all].map(only), only([...ALIGN]).join(''))
}

function cells(row: Row): string[] {
  const { aim, floor } = row
  const ms = (value: number | undefined): string => (value === undefined ? '' : `${format(value)} ms`)
  const number = (value: number | undefined): string => (value === undefined ? '' : format(value))
  const part = (value: number | undefined): string =>
    value === undefined ? '' : `${Math.round(value * 100)}%`
  const sign = aim && ('least' in aim ? `≥ ${format(aim.least)}` : `≤ ${format(aim.most)}`)
  const met = isMet(row)
  return [
    row.what,
    row.batch === undefined ? '' : format(row.batch),
    withUnit(row.value, row.unit),
    number(row.rowsPerSecond),
    row.peakMegabytes === undefined ? '' : `${format(row.peakMegabytes)} MB`,
    ms(row.p50),
    ms(row.p99),
    floor ? withUnit(floor.value, row.unit) : '',
    floor ? (row.value / floor.value).toFixed(2) : '',
    sign ?? '',
    met === undefined ? '' : met ? 'yes' : 'NO',
    part(row.nodeCpu),
    part(row.etcdCpu),
    part(row.clientCpu),
    part(row.othersCpu),
    [floor?.name, row.note].filter(Boolean).join('; '),
  ]
}

function withUnit(value: number, unit: string): string {
  return unit.startsWith('/') ? `${format(value)}${unit}` : `${format(value)} ${unit}`
}

/** `align` has l or r for each column. */
export function table(rows: readonly (readonly string[])[], align: string): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (align[i] === 'r' ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd()
  const rule = widths.map((width) => '-'.repeat(width)).join('  ')
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join('\n')
}
