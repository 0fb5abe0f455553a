// Docker Compose's own reader of .env files (compose-go), where a program with the reader is at hand: the
// variable COFFER_COMPOSE_GO names a program that prints, for each file, a line of JSON with keys and values.
import { execFileSync } from 'node:child_process'

/** What compose-go reads, by file; undefined where the program is not at hand. */
export function composeGoReads(files: readonly string[]): Readonly<Record<string, string>>[] | undefined {
  const program = process.env.COFFER_COMPOSE_GO
  if (program === undefined) return undefined
  const lines = execFileSync(program, files, { encoding: 'utf8' }).trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line))
}
