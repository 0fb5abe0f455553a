// The end of a process. In `process.exit` Node joins the threads of the compiler, and a compilation may wait
// for a collection of garbage by the ended thread: the process stands still for ever (Node 24.21;
// nodejs/node#54918). Uncaught errors end a process the same way.
import { setFlagsFromString } from 'node:v8'

/** Compilations under way come to their end in the time, with all collections of garbage. */
const COMPILED_MS = 250

/** Ends the process. Meanwhile nothing else goes on: no request is answered. */
export function endProcess(code: number): never {
  endCompilations()
  process.exit(code)
}

/** For a process that serves: uncaught errors end the process as `endProcess` does, with 1. */
export function endOnUncaughtErrors(): void {
  process.on('uncaughtExceptionMonitor', endCompilations)
}

function endCompilations(): void {
  for (const flag of ['--no-concurrent-recompilation', '--no-concurrent-sparkplug']) setFlagsFromString(flag)
  const end = performance.now() + COMPILED_MS
  // Not a sleep: only a running thread collects garbage for a compilation.
  while (performance.now() < end);
}
