// coffer tokenize, detokenize and retokenize: columns of files.
import { setFlagsFromString } from 'node:v8'
import type { Command } from 'commander'
import { OperatorError, UsageError } from '../../errors.ts'
import { checkOut, defaultOut, type FormatName, formatNamed, formatOf } from '../../table/file-format.ts'
import type { Report } from '../../table/report.ts'
import type { Operation } from '../../table/vault.ts'
import { ENVIRONMENT, withClient } from '../terminal/connect.ts'
import { checkOutput, isStandardOutput } from '../terminal/output.ts'
import { counted, note, print } from '../terminal/terminal.ts'
import { convertText } from './convert.ts'
import { openInput } from './input.ts'
import { convertParquetFile } from './parquet.ts'

/** By itself V8 looks for unused old objects after some 20 MB of new buffers: a tenth of the CPU time. */
const COLLECT_SELDOM = '--heap-growing-percent=400'

/** For a request of 20,000 values; a vault that is away is told within 12 s. */
const TIMEOUT_MS = 10_000

type Options = {
  readonly column: readonly string[]
  readonly out?: string
  readonly format?: string
  readonly delimiter?: string
  readonly as?: string
  readonly map?: string
  readonly allowTokens?: boolean
  readonly mixedEpochs?: boolean
  readonly require?: boolean
  readonly strict?: boolean
  readonly force?: boolean
  readonly json?: boolean
}

const ABOUT: Readonly<Record<Operation, string>> = {
  tokenize: 'replace the values of columns of a file by tokens',
  detokenize: 'replace the tokens in columns of a file by their values',
  retokenize: 'replace the tokens in columns of a file by tokens of the active epoch',
}
const EXAMPLE: Readonly<Record<Operation, string>> = {
  tokenize: 'coffer tokenize patients.csv --column SSN --column PASSPORT     writes patients.tokens.csv',
  detokenize: 'coffer detokenize patients.tokens.csv --column SSN -o patients.csv',
  retokenize: 'coffer retokenize patients.tokens.csv --column SSN -o patients.new.csv',
}

export function registerTables(program: Command): void {
  for (const operation of ['tokenize', 'detokenize', 'retokenize'] as const) register(program, operation)
}

function register(program: Command, operation: Operation): void {
  const command = program
    .command(`${operation} <file>`)
    .description(ABOUT[operation])
    .requiredOption('--column <name>', 'a column, a path of JSON such as contacts[].phone, or #3', addTo)
    .option('-o, --out <file>', 'the new file; - is stdout')
    .option('--format <format>', 'csv, tsv, ndjson, jsonl, json or parquet; default: by the extension')
    .option('--delimiter <character>', 'between the fields of CSV; default: a comma, of .tsv a tab')
    .option('--require', 'fail where a record has no place for a path')
  if (operation === 'tokenize')
    command
      .option('--as <type>', '`text`: tokenize numbers and booleans as they are written')
      .option('--allow-tokens', 'tokenize values that are tokens already')
  if (operation !== 'detokenize')
    command.option('--mixed-epochs', 'accept tokens of two epochs, where the epoch is rotated meanwhile')
  if (operation !== 'tokenize') command.option('--strict', 'fail where a token is not found')
  if (operation === 'retokenize')
    command.option(
      '--map <name>',
      'keep the tokens, and add the new tokens as a last field (CSV, one column)',
    )
  command
    .option('--force', 'overwrite an existing file')
    .option(
      '--json',
      'print {"rows","values","distinct","replaced","not_found","unmatched","epochs","seconds"}',
    )
    .addHelpText('after', helpOf(operation))
    .action((file: string, options: Options) => run(operation, file, options))
}

function helpOf(operation: Operation): string {
  return `
All bytes but those of the named columns stay as they are. FILE is .csv, .tsv, .ndjson, .jsonl or .json,
each also .gz or .zst, or .parquet; - is stdin, with --format.

Example:
  $ ${EXAMPLE[operation]}
${ENVIRONMENT}`
}

function addTo(name: string, names: readonly string[] = []): string[] {
  return [...names, name]
}

async function run(operation: Operation, file: string, options: Options): Promise<void> {
  const began = performance.now()
  setFlagsFromString(COLLECT_SELDOM)
  const format = checkedFormat(file, options)
  checkOptions(format, options)
  const delimiter = delimiterOf(options)
  const out = options.out ?? (file === '-' ? '-' : defaultOut(file, operation))
  checkOutput(out, { file, force: options.force ?? false })
  const common = {
    operation,
    file,
    out,
    columns: options.column,
    asText: options.as === 'text',
    allowTokens: options.allowTokens ?? false,
    mixedEpochs: options.mixedEpochs ?? false,
    check: (found: Report): void => checkReport(found, options),
  }
  const report = await (format === 'parquet'
    ? parquet(common, options)
    : text({ ...common, format, delimiter, newField: options.map }, options))
  tell({ operation, format, out, report, seconds: (performance.now() - began) / 1000 }, options)
}

function parquet(run: Parameters<typeof convertParquetFile>[0], { out }: Options): Promise<Report> {
  if (out !== undefined) checkOut(out, { file: run.file, format: 'parquet', compression: 'none' })
  return convertParquetFile(run)
}

type TextRun = Omit<Parameters<typeof convertText>[0], 'input' | 'coffer'>

async function text(run: TextRun, options: Options): Promise<Report> {
  const { file, format, out } = run
  const input = await openInput(file)
  try {
    if (options.out !== undefined && !isStandardOutput(out))
      checkOut(out, { file, format, compression: input.compression })
    return await withClient((coffer) => convertText({ ...run, input, coffer }), TIMEOUT_MS)
  } finally {
    input.close()
  }
}

function checkedFormat(file: string, { format }: Options): FormatName {
  if (format !== undefined) return formatNamed(format)
  const found = file === '-' ? undefined : formatOf(file)
  if (found !== undefined) return found
  const message = file === '-' ? 'the format of stdin is not known' : `${file} has no extension of a format`
  throw new UsageError(message, { hint: 'add --format with csv, tsv, ndjson, jsonl, json or parquet' })
}

function checkOptions(format: FormatName, options: Options): void {
  const isCsv = format === 'csv' || format === 'tsv'
  if (options.as !== undefined && options.as !== 'text')
    throw new UsageError(`--as ${options.as} is not known`, { hint: 'use --as text' })
  if (options.delimiter !== undefined && !isCsv)
    throw new UsageError(`--delimiter is not for ${format}`, { hint: 'leave --delimiter out' })
  if (options.map === undefined) return
  if (!isCsv) throw new UsageError(`--map is not for ${format}`, { hint: 'use CSV or TSV' })
  if (options.column.length !== 1)
    throw new UsageError('--map goes with one --column', { hint: 'name the column of the old tokens' })
}

function delimiterOf({ delimiter }: Options): string | undefined {
  const character = delimiter === '\\t' ? '\t' : delimiter
  const hint = "use --delimiter ';', or '\\t' for a tab"
  if (character !== undefined && !/^[^"\r\n\x80-\uffff]$/.test(character))
    throw new UsageError('--delimiter must be a single character of ASCII, no quote and no line end', {
      hint,
    })
  // Quotes would go around the tokens, and stay around the values on the way back.
  if (character !== undefined && /[a-z0-9_]/.test(character))
    throw new UsageError(
      `--delimiter must not be ${character}: tokens have lower-case letters, digits and _`,
      {
        hint,
      },
    )
  return character
}

/** Throws OperatorError where `--require` or `--strict` refuses the result. */
function checkReport({ unmatched, notFound }: Report, { require, strict }: Options): void {
  if (require && unmatched > 0)
    throw new OperatorError(`${counted(unmatched, 'record')} without a place for a named path`, {
      hint: 'correct the records, or run the command without --require',
    })
  if (strict && notFound > 0)
    throw new OperatorError(`${counted(notFound, 'token')} not found`, {
      hint: 'use the API key of the owner of the tokens, or run the command without --strict',
    })
}

type Done = {
  readonly operation: Operation
  readonly format: FormatName
  readonly out: string
  readonly report: Report
  readonly seconds: number
}

/** Tells the result; on stderr where stdout has the content. */
function tell({ operation, format, out, report, seconds }: Done, { json, map }: Options): void {
  const isNull = format === 'parquet' && operation === 'detokenize'
  const lost = isNull
    ? 'NULL in their places'
    : map === undefined
      ? 'left as they are'
      : 'nothing in the new field'
  const { notFound, unmatched, ...counts } = report
  if (notFound > 0) note(`coffer: ${counted(notFound, 'token')} not found, ${lost}`)
  if (unmatched > 0) note(`coffer: ${counted(unmatched, 'record')} without a place for a named path`)
  const say = isStandardOutput(out) ? note : print
  const { rows, values, distinct, replaced, epochs } = counts
  const all = { rows, values, distinct, replaced, not_found: notFound, unmatched, epochs }
  const done = `${counted(rows, 'row')}, ${replaced} of ${counted(values, 'value')} ${operation}d`
  if (json) say(JSON.stringify({ ...all, seconds: Math.round(seconds * 1000) / 1000 }))
  else if (isStandardOutput(out)) note(`coffer: ${done}`)
  else print(`${out}: ${done}`)
}
