// Judges what calls about secrets say of time: begins of versions, versions as of an instant, references. Imports nothing of
// the product.

import { type Ask, type Call, type Line, type Ref, secretOf } from './asks.ts'
import { check } from './violation.ts'

/** What the judge of secrets knows. */
export type Seen = {
  /** The history of the secret, as of the end. */
  readonly lines: (name: string) => readonly Line[]
  /** The latest version of the secret that anybody knew before the instant of the judge. */
  readonly seen: (name: string, before: number) => number
  readonly call: (id: string) => Call | undefined
}

type Moment = { readonly name: string; readonly at: number; readonly asked: number }

/** How far one clock carries the begins of another secret's versions. */
const CONTAGION_MS = 60_000

/**
 * Whether the version may be the one that was valid at an instant of the past: the last one that begins then or before.
 * A version that nobody knew when the call began may have come later. 0: none was valid.
 */
export function validAt(told: Seen, { name, at, asked }: Moment): (version: number) => boolean {
  const lines = told.lines(name)
  const known = told.seen(name, asked)
  return (version) =>
    (version === 0 || lines[version - 1]?.validFrom <= at) &&
    lines.every((line) => line.version <= version || line.version > known || line.validFrom > at)
}

/** Throws Violation. */
export function judgeResolved(calls: readonly Call[], told: Seen): void {
  for (const call of calls) {
    const { ask, answer, asked, clock } = call
    if (answer.kind === 'refused' && answer.slug === 'invalid-request') {
      const at = 'at' in ask ? (ask.at ?? 0) : 0
      check(at > clock[0], 'an instant of the past was refused')
    }
    if (ask.kind !== 'resolve') continue
    if (answer.kind === 'resolved')
      for (const [i, value] of answer.values.entries()) {
        const found = told.lines(secretOf(ask.owner, ask.refs[i].name)).filter(({ version, request }) => {
          const by = told.call(request)
          const isIt = by?.ask.kind === 'write' && by.ask.value === value && by.asked < call.answered
          return isIt && mayBe(told, { ask, ref: ask.refs[i], asked }, version)
        })
        check(found.length > 0, 'a reference has the value of another version')
      }
    for (const i of (answer.kind === 'refused' && answer.missing) || [])
      check(mayBe(told, { ask, ref: ask.refs[i], asked }, 0), 'law 6: a known reference was not found')
  }
}

type Wanted = { readonly ask: Extract<Ask, { kind: 'resolve' }>; readonly ref: Ref; readonly asked: number }

/** Whether the reference may stand for the version; 0: for none. */
function mayBe(told: Seen, { ask: { owner, at }, ref, asked }: Wanted, version: number): boolean {
  const name = secretOf(owner, ref.name)
  if (ref.version !== undefined)
    return version === ref.version || (version === 0 && told.seen(name, asked) < ref.version)
  if (at !== undefined) return validAt(told, { name, at, asked })(version)
  return version >= told.seen(name, asked)
}

/**
 * A version begins now, after the version before, and with one clock far ahead no other secret's version is carried
 * further than a minute. Throws Violation.
 */
export function judgeBegins(calls: readonly Call[], histories: ReadonlyMap<string, readonly Line[]>): void {
  for (const { ask, answer, clock } of calls) {
    if (ask.kind !== 'write' || answer.kind !== 'written' || answer.replayed) continue
    const { version, validFrom } = answer
    check(validFrom >= clock[0], 'a version begins before it was asked for')
    const before = ask.names.map((name) => histories.get(secretOf(ask.owner, name))?.[version - 2]?.validFrom)
    const least = Math.max(0, ...before.map((each) => (each ?? 0) + 1))
    check(validFrom <= Math.max(least, clock[1] + CONTAGION_MS), 'a version begins in the future')
  }
}
