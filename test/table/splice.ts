// Runs a conversion in memory, with the content in parts of a few bytes.
import assert from 'node:assert/strict'
import { CsvFormat } from '../../src/table/csv.ts'
import { JsonFormat } from '../../src/table/json.ts'
import type { Format } from '../../src/table/piece.ts'
import type { Report } from '../../src/table/report.ts'
import { sourceOf } from '../../src/table/source.ts'
import { PARTS_VALID, Splice } from '../../src/table/splice.ts'
import type { Operation, Vault } from '../../src/table/vault.ts'
import { byBytes } from './fake-vault.ts'

export type Case = {
  readonly vault: Vault
  readonly operation?: Operation
  readonly columns: readonly string[]
  readonly format?: 'csv' | 'ndjson' | 'json'
  readonly delimiter?: string
  readonly newField?: string
  readonly asText?: boolean
  readonly mixedEpochs?: boolean
  /** Bytes of each part; default: all at once. */
  readonly part?: () => number
  /** Awaited before the next part of the new content is asked for. */
  readonly written?: () => Promise<void>
}

export async function splice(
  content: string | Buffer,
  options: Case,
): Promise<{ readonly bytes: Buffer; readonly report: Report }> {
  const { operation = 'tokenize', mixedEpochs = false } = options
  const vault = byBytes(options.vault)
  const run = new Splice({ operation, format: formatOf(options), vault, allowTokens: false, mixedEpochs })
  const parts: Buffer[] = []
  const valid: Buffer[] = []
  for await (const part of run.run(sourceOf(partsOf(Buffer.from(content), options.part)))) {
    await options.written?.()
    parts.push(Buffer.from(part))
    if (valid.push(part) < PARTS_VALID) continue
    const oldest = parts.at(-PARTS_VALID)
    assert.ok(oldest && valid.shift()?.equals(oldest), 'a part stays until enough others are asked for')
  }
  return { bytes: Buffer.concat(parts), report: run.report }
}

function formatOf(options: Case): Format {
  const { columns, format = 'csv', delimiter = ',', newField, asText = false } = options
  if (format === 'csv') return new CsvFormat({ columns, delimiter, newField })
  const operation = options.operation ?? 'tokenize'
  return new JsonFormat({ columns, isLines: format === 'ndjson', asText, operation })
}

async function* partsOf(bytes: Buffer, part = () => bytes.length): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const size = Math.max(1, part())
    yield bytes.subarray(at, at + size)
    at += size
  }
}
