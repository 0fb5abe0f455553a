// --step: a demo waits for Enter before every chapter but the first.
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { UsageError } from '../../errors.ts'

/** Throws UsageError where nobody can press Enter. */
export function checkTerminal(): void {
  if (process.stdin.isTTY) return
  throw new UsageError('--step waits for Enter, and stdin is not a terminal', {
    hint: 'run the demo in a terminal, or without --step',
  })
}

/** Resolves at Enter, and at Ctrl-D: the input then has ended, and later calls resolve at once. */
export async function enter(): Promise<void> {
  const { stdin } = process
  if (stdin.readableEnded || stdin.destroyed) return
  process.stderr.write('\n[Enter] ')
  const lines = createInterface({ input: stdin })
  await Promise.race([once(lines, 'line'), once(lines, 'close')])
  lines.close()
}
