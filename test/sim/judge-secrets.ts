// Judges calls about secrets, once the histories of all secrets are known. A secret is called by a text of its owner and
// name.

import { type Ask, type Call, type Line, secretOf, type Write } from './asks.ts'
import { judgeBegins, judgeResolved, type Seen, validAt } from './judge-times.ts'
import { Known } from './known.ts'
import { check } from './violation.ts'

/** `histories`: lines by secret, as of the end. Throws Violation. */
export function judgeSecrets(calls: readonly Call[], histories: ReadonlyMap<string, readonly Line[]>): void {
  new SecretJudge(calls, histories).judge()
}

class SecretJudge {
  readonly #calls: readonly Call[]
  readonly #histories: ReadonlyMap<string, readonly Line[]>
  readonly #callById: ReadonlyMap<string, Call>
  /** The latest version of each secret that anybody knew. */
  readonly #known = new Map<string, Known>()

  constructor(calls: readonly Call[], histories: ReadonlyMap<string, readonly Line[]>) {
    this.#calls = calls
    this.#histories = histories
    this.#callById = new Map(calls.map((call) => [call.id, call]))
    for (const call of calls.toSorted((a, b) => a.answered - b.answered)) {
      if (call.answered === Number.POSITIVE_INFINITY) break
      for (const [name, version] of versionsIn(call)) {
        const known = this.#known.get(name) ?? new Known()
        this.#known.set(name, known)
        known.note(call.answered, version)
      }
    }
  }

  judge(): void {
    const effects = new Map<string, Map<string, Line>>()
    for (const [name, lines] of this.#histories) {
      for (const [i, line] of lines.entries()) {
        check(line.version === i + 1, 'law 4: versions are gapless')
        const next = lines[i + 1]?.validFrom ?? null
        check(line.validTo === next && (next === null || next > line.validFrom), 'intervals are gapless')
        const call = this.#callById.get(line.request)
        const asked = call?.ask.kind === 'write' && namesIn(call.ask).includes(name)
        check(asked, `a version that nobody has written: ${line.request}`)
        const of = effects.get(line.request) ?? new Map<string, Line>()
        check(!of.has(name), 'law 4: a write has two effects on a secret')
        effects.set(line.request, of.set(name, line))
      }
    }
    for (const call of this.#calls) if (call.ask.kind === 'write') this.#judgeWrite(call, call.ask, effects)
    this.#judgeKeys(effects)
    for (const call of this.#calls) this.#judgeRead(call)
    judgeResolved(this.#calls, this.#told)
    judgeBegins(this.#calls, this.#histories)
  }

  readonly #told: Seen = {
    lines: (name) => this.#histories.get(name) ?? [],
    seen: (name, before) => this.#seen(name, before),
    call: (id) => this.#callById.get(id),
  }

  #judgeWrite(call: Call, ask: Write, effects: ReadonlyMap<string, ReadonlyMap<string, Line>>): void {
    const { answer, asked } = call
    const lines = effects.get(call.id)
    if (answer.kind === 'refused' || answer.kind === 'not-applied')
      check(!lines, `a write that was refused (${answer.kind}) is there`)
    if (lines) check(lines.size === new Set(ask.names).size, 'a write is there in part')
    if (answer.kind === 'written' && !answer.replayed) {
      check(lines !== undefined, 'law 1: an acknowledged write is lost')
      for (const { version, validFrom } of lines.values())
        check(version === answer.version && validFrom === answer.validFrom, 'a version is not as it was told')
    }
    for (const [name, { version }] of lines ?? []) {
      if (ask.create) check(version === 1, 'a created secret begins with version 1')
      if (ask.after !== undefined) check(version === ask.after + 1, 'a version follows another one')
      check(version > this.#seen(name, asked), 'law 4: a version before those that were known')
    }
  }

  /** Of calls under one Idempotency-Key one has an effect, and all answers are about that one. */
  #judgeKeys(effects: ReadonlyMap<string, ReadonlyMap<string, Line>>): void {
    const byKey = new Map<string, Call[]>()
    for (const call of this.#calls) {
      if (call.ask.kind !== 'write' || call.ask.key === undefined) continue
      const name = `${call.ask.owner}/${call.ask.by}/${call.ask.key}`
      byKey.set(name, [...(byKey.get(name) ?? []), call])
    }
    for (const calls of byKey.values()) {
      const done = calls.filter(({ id }) => effects.has(id))
      check(done.length <= 1, 'two writes under one Idempotency-Key')
      const line = [...(effects.get(done[0]?.id ?? '')?.values() ?? [])][0]
      for (const { answer } of calls) {
        if (answer.kind !== 'written') continue
        const same = answer.version === line?.version && answer.validFrom === line.validFrom
        check(same, 'an answer under an Idempotency-Key is about another write')
      }
      for (const { answer, asked } of calls) {
        const before = calls.some(({ answer: { kind }, answered }) => kind === 'written' && answered < asked)
        const ended = answer.kind === 'refused' && answer.slug !== 'idempotency-in-progress'
        const first = ended && ['not-ready', 'unauthorized', 'forbidden'].includes(answer.slug)
        check(!before || !ended || first, 'a success under the key was refused later')
      }
    }
  }

  /** All names that were known before, and none that was not there at the end. */
  #judgeNames({ ask: { owner }, answer, asked }: Call): void {
    if (answer.kind !== 'names') return
    const names = new Set(answer.names)
    for (const name of names)
      check(this.#histories.has(secretOf(owner, name)), 'a list has a name that is not there')
    for (const [secret, known] of this.#known) {
      const [other, name] = JSON.parse(secret)
      const wanted = other === owner && known.before(asked) > 0
      check(!wanted || names.has(name), 'laws 4 and 6: a list lacks a known name')
    }
  }

  #judgeRead(call: Call): void {
    const { ask, answer, asked, answered } = call
    this.#judgeNames(call)
    for (const [name, version] of versionsIn(call)) {
      const line = this.#histories.get(name)?.[version - 1]
      check(line !== undefined, 'laws 1 and 5: a version that was seen is gone')
      const by = this.#callById.get(line.request)
      check(by !== undefined && by.asked < answered, 'a version was seen before it was asked for')
      if (answer.kind === 'secret') {
        check(by.ask.kind === 'write' && by.ask.value === answer.value, 'a version has another value')
        if (ask.kind === 'read' && ask.version !== undefined) check(version === ask.version, 'the version')
      }
    }
    if (answer.kind === 'lines')
      for (const { version, request } of answer.lines) {
        const now = this.#histories.get(nameOf(ask))?.[version - 1]
        check(now?.request === request, 'law 5: a history was told otherwise')
      }
    if (ask.kind === 'read' && ask.version !== undefined) {
      if (answer.kind === 'refused' && answer.slug === 'not-found')
        check(this.#seen(nameOf(ask), asked) < ask.version, 'law 6: a known version was not found')
      return
    }
    if (ask.kind === 'read' && ask.at !== undefined) this.#judgeReadAt(call, ask.at)
    else
      for (const [name, version] of latestIn(call))
        check(version >= this.#seen(name, asked), 'law 4: an old version as the latest')
  }

  #judgeReadAt(call: Call, at: number): void {
    const { answer } = call
    const name = nameOf(call.ask)
    const valid = validAt(this.#told, { name, at, asked: call.asked })
    if (answer.kind === 'secret') check(valid(answer.version), 'another version was valid at the instant')
    if (answer.kind === 'refused' && answer.slug === 'not-found')
      check(valid(0), 'a version that was valid at the instant was not found')
  }

  /** The latest version of the secret that anybody knew before the instant. */
  #seen(name: string, before: number): number {
    return this.#known.get(name)?.before(before) ?? 0
  }
}

function namesIn({ owner, names }: Write): string[] {
  return names.map((name) => secretOf(owner, name))
}

function nameOf(ask: Ask): string {
  return secretOf(ask.owner, 'name' in ask ? ask.name : '')
}

/** The versions that an answer shows. */
function versionsIn({ ask, answer }: Call): [string, number][] {
  if (ask.kind === 'write' && answer.kind === 'written')
    return namesIn(ask).map((name) => [name, answer.version])
  if (answer.kind === 'secret') return [[nameOf(ask), answer.version]]
  if (answer.kind === 'lines') return [[nameOf(ask), answer.lines.length]]
  if (ask.kind !== 'write' || answer.kind !== 'refused') return []
  if (answer.slug === 'version-conflict') return namesIn(ask).map((name) => [name, answer.number ?? 0])
  return (answer.names ?? []).map((name) => [secretOf(ask.owner, name), 1])
}

/** The versions that an answer calls the latest; 0: there is no such secret. */
function latestIn(call: Call): [string, number][] {
  const { ask, answer } = call
  if (answer.kind === 'secret' || answer.kind === 'lines') return versionsIn(call)
  if (answer.kind !== 'refused') return []
  if (answer.slug === 'version-conflict') return versionsIn(call)
  if (answer.slug !== 'not-found') return []
  const names = ask.kind === 'write' ? namesIn(ask) : [nameOf(ask)]
  return names.map((name) => [name, 0])
}
