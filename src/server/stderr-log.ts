// The log of a node on stderr.
import { writeSync } from 'node:fs'
import pino from 'pino'
import type { Logger } from '../log.ts'

const STDERR = 2

/**
 * Lines of JSON, with the node's name. A line is lost where stderr takes no more (a full disk, a closed
 * terminal): no log ends a node. The destination of pino itself throws, and keeps the lines.
 */
export function stderrLog(node: string): Logger {
  return pino({ level: 'info', base: { node } }, { write: writeLine })
}

function writeLine(line: string): void {
  const bytes = Buffer.from(line)
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(STDERR, bytes, at)
  } catch {
    // Told nowhere: stderr is the place for errors.
  }
}
