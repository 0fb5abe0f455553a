// Instants in options: checked before a command does anything, whether or not the command comes to use them.
import { UsageError } from '../../errors.ts'
import { parseInstant } from '../../wire.ts'

/** Milliseconds since 1970. Throws UsageError. */
export function instantOf(option: string, text: string): number {
  const at = parseInstant(text)
  if (at !== undefined) return at
  throw new UsageError(`${option} is not an instant`, { hint: 'use an instant such as 2026-01-31T12:00:00Z' })
}

/** The text of `--at`, for a request. Throws UsageError. */
export function atOf(text: string): string {
  instantOf('--at', text)
  return text
}
