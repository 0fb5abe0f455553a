// The format of a file, by its name or as told, its compression by its first bytes, and the name of the new
// file.
import { basename, dirname, join } from 'node:path'
import { UsageError } from '../errors.ts'
import type { Operation } from './vault.ts'

export type FormatName = 'csv' | 'tsv' | 'ndjson' | 'json' | 'parquet'
export type Compression = 'none' | 'gzip' | 'zstd'

const FORMATS: ReadonlyMap<string, FormatName> = new Map([
  ['csv', 'csv'],
  ['tsv', 'tsv'],
  ['ndjson', 'ndjson'],
  ['jsonl', 'ndjson'],
  ['json', 'json'],
  ['parquet', 'parquet'],
])
const COMPRESSIONS: ReadonlyMap<string, Compression> = new Map([
  ['gz', 'gzip'],
  ['zst', 'zstd'],
])
const ADDED: Readonly<Record<Operation, string>> = {
  tokenize: '.tokens',
  detokenize: '.values',
  retokenize: '.retokenized',
}
const NAMES = 'csv, tsv, ndjson, jsonl, json or parquet'

/** As many bytes tell the compression. */
export const MAGIC_BYTES = 4

/** Throws UsageError for an unknown name. */
export function formatNamed(name: string): FormatName {
  const format = FORMATS.get(name.toLowerCase())
  if (format === undefined) throw new UsageError(`--format ${name} is not known`, { hint: `use ${NAMES}` })
  return format
}

/** The format by the extension, below `.gz` or `.zst`; undefined where the extension says nothing. */
export function formatOf(path: string): FormatName | undefined {
  return partsOf(path).format
}

export function compressionOf(first: Uint8Array): Compression {
  if (first[0] === 0x1f && first[1] === 0x8b) return 'gzip'
  const isZstd = first[0] === 0x28 && first[1] === 0xb5 && first[2] === 0x2f && first[3] === 0xfd
  return isZstd ? 'zstd' : 'none'
}

/** The name of the new file: `patients.tokens.csv.gz` for `patients.csv.gz`. */
export function defaultOut(path: string, operation: Operation): string {
  const { stem, extensions } = partsOf(path)
  return join(dirname(path), stem + ADDED[operation] + extensions)
}

type Content = {
  readonly file: string
  readonly format: FormatName
  readonly compression: Compression
}

/**
 * Throws UsageError where the extension of the new file says another format or compression. The extension of
 * the file itself is always good.
 */
export function checkOut(out: string, { file, format, compression }: Content): void {
  const named = partsOf(out)
  if (named.extensions !== '' && named.extensions === partsOf(file).extensions) return
  const hint = 'the new file has the format and the compression of the first file: name it accordingly'
  if (named.format !== undefined && named.format !== format)
    throw new UsageError(`${out} would not be ${named.format}, but ${format}`, { hint })
  const isCompressed = named.compression !== undefined || named.format !== undefined
  if (isCompressed && (named.compression ?? 'none') !== compression)
    throw new UsageError(
      `${out} would be ${compression === 'none' ? 'not compressed' : `compressed by ${compression}`}`,
      { hint },
    )
}

type Parts = {
  readonly stem: string
  readonly extensions: string
  readonly format: FormatName | undefined
  readonly compression: Compression | undefined
}

function partsOf(path: string): Parts {
  const name = basename(path)
  const words = name.split('.')
  const compression = words.length > 1 ? COMPRESSIONS.get(lastOf(words)) : undefined
  const packed = compression === undefined ? '' : `.${words.pop()}`
  const format = words.length > 1 ? FORMATS.get(lastOf(words)) : undefined
  const extension = format === undefined ? '' : `.${words.pop()}`
  return { stem: words.join('.'), extensions: extension + packed, format, compression }
}

function lastOf(words: readonly string[]): string {
  return words.at(-1)?.toLowerCase() ?? ''
}
