// What a test of a scenario has shown: only the expected failure of the expected test is a find. A module that does not load, and
// a test that was ended because of the time, show nothing.
import type { Scenario } from './scenarios.ts'

/** `text`: of all output, tests by TAP. */
type Run = { readonly code: number | null; readonly text: string }

/** `found`: what the test says of its failure. `why`: why the failure is none that was expected. */
export type Seen =
  | { readonly kind: 'passed' }
  | { readonly kind: 'found'; readonly law: string }
  | { readonly kind: 'other'; readonly why: string }

const NOT_LOADED = /Cannot find (?:module|package)|ERR_MODULE_NOT_FOUND|does not provide an export/
const FAILED = /^( *)not ok \d+ - (.*)\n\1 {2}---\n([\s\S]*?)\n\1 {2}\.\.\.$/gm

export function seenIn({ code, text }: Run, { only = '', found }: Pick<Scenario, 'only' | 'found'>): Seen {
  if (code === 0) return { kind: 'passed' }
  const [missing] = NOT_LOADED.exec(text) ?? []
  if (missing !== undefined) return { kind: 'other', why: missing }
  if (code === null) return { kind: 'other', why: 'ended because of the time' }
  const failures = [...text.matchAll(FAILED)].filter(([, , name]) => name.replaceAll('\\', '').includes(only))
  for (const [, , , told] of failures)
    if (told.includes("failureType: 'testCodeFailure'") && found.test(told))
      return { kind: 'found', law: errorIn(told) ?? 'failed' }
  return { kind: 'other', why: errorIn(text) ?? `ended with ${code}` }
}

function errorIn(text: string): string | undefined {
  return /^ *error: (?:\|-\s*)?(.+)$/m.exec(text)?.[1]
}
