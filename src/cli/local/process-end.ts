// The end of a process. In `process.exit` Node joins the threads of the compiler, and a compilation may wait
// for a collection of garbage by the ended thread: the process stands still for ever (Node 24.21;
// nodejs/node#54918).
import { setFlagsFromString } from 'node:v8'
import { sleep } from '../../waiting.ts'

/** Compilations under way come to their end in the time, with all collections of garbage. */
const COMPILED_MS = 250

/** Ends the process once no thread compiles functions. All else goes on meanwhile. */
export async function endProcess(code: number): Promise<never> {
  for (const flag of ['--no-concurrent-recompilation', '--no-concurrent-sparkplug']) setFlagsFromString(flag)
  await sleep(COMPILED_MS)
  process.exit(code)
}
