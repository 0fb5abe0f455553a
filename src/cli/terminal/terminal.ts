// Output of the commands: results on stdout, all other text on stderr, colours only on a terminal.
import { styleText } from 'node:util'

/** Prints a result. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function printJson(result: unknown): void {
  print(JSON.stringify(result))
}

/** Prints everything but results. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** styleText checks for a terminal, and for NO_COLOR. */
export function bold(text: string): string {
  return styleText('bold', text, { stream: process.stdout })
}

export function green(text: string): string {
  return styleText('green', text, { stream: process.stdout })
}

/** Lines of aligned columns, the first row bold. `indent` is put before every line. */
export function table(rows: readonly (readonly string[])[], indent = ''): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  }
  const lines = rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  )
  return lines.map((line, i) => indent + (i === 0 ? bold(line) : line)).join('\n')
}

/** `1 key`, `2 keys`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
