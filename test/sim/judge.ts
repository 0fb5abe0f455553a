// The judge: a model of a vault that says of each answer whether the answer could be, by the laws of docs/design.md. It
// imports nothing of the product. Instants are places in the order of the history: no two are equal.

export type Ask =
  | { readonly kind: 'tokenize'; readonly owner: string; readonly values: readonly string[] }
  | { readonly kind: 'detokenize'; readonly owner: string; readonly tokens: readonly string[] }
  | { readonly kind: 'rotate'; readonly owner: string; readonly to: number }
  | { readonly kind: 'epochs'; readonly owner: string }
  | Write
  | { readonly kind: 'read'; readonly owner: string; readonly name: string; readonly version?: number }
  | { readonly kind: 'history'; readonly owner: string; readonly name: string }

/** `after`: the version that the new version has to follow. `key`: the Idempotency-Key. */
export type Write = {
  readonly kind: 'write'
  readonly owner: string
  readonly names: readonly string[]
  readonly value: string
  readonly create: boolean
  readonly after?: number | undefined
  readonly key?: string | undefined
}

/** `request`: the call that has put the version. `validTo` is null for the latest version. */
export type Line = {
  readonly version: number
  readonly validFrom: number
  readonly validTo: number | null
  readonly request: string
}

export type Answer =
  | { readonly kind: 'tokens'; readonly epoch: number; readonly tokens: readonly string[] }
  | { readonly kind: 'values'; readonly values: readonly (string | undefined)[] }
  | { readonly kind: 'rotated'; readonly epoch: number; readonly rotated: boolean }
  | { readonly kind: 'active'; readonly epoch: number }
  | {
      readonly kind: 'written'
      readonly version: number
      readonly validFrom: number
      readonly replayed: boolean
    }
  | { readonly kind: 'secret'; readonly version: number; readonly value: string }
  | { readonly kind: 'lines'; readonly lines: readonly Line[] }
  | {
      readonly kind: 'refused'
      readonly slug: string
      readonly number?: number | undefined
      readonly names?: readonly string[]
    }
  /** 503, and nothing has happened. */
  | { readonly kind: 'not-applied' }
  /** 503, a broken connection, or no answer yet: what was asked may happen, or not. */
  | { readonly kind: 'unknown' }

export type Call = {
  readonly id: string
  readonly ask: Ask
  readonly asked: number
  /** Infinity before the answer. */
  answered: number
  answer: Answer
}

export class Violation extends Error {
  override readonly name = 'Violation'
}

function check(holds: boolean, law: string): asserts holds {
  if (!holds) throw new Violation(law)
}

const REFUSALS: Readonly<Record<Ask['kind'], readonly string[]>> = {
  tokenize: ['not-ready'],
  detokenize: [],
  rotate: ['epoch-conflict'],
  epochs: [],
  write: ['secret-exists', 'not-found', 'version-conflict', 'idempotency-in-progress', 'not-ready'],
  read: ['not-found'],
  history: ['not-found'],
}

export class Judge {
  readonly calls: Call[] = []
  readonly #callById = new Map<string, Call>()
  /** Tokens that were acknowledged: JSON of owner, epoch and value to the token, and the token to its issue. */
  readonly #tokens = new Map<string, string>()
  readonly #issues = new Map<string, { owner: string; value: string; answered: number }>()
  readonly #rotations = new Set<string>()
  #instant = 0

  /** `id`: as the versions that a call writes name the call. */
  begin(ask: Ask, id = `c${this.calls.length}`): Call {
    const call: Call = {
      id,
      ask,
      asked: ++this.#instant,
      answered: Number.POSITIVE_INFINITY,
      answer: { kind: 'unknown' },
    }
    this.calls.push(call)
    this.#callById.set(id, call)
    return call
  }

  /** Throws Violation where the answer cannot be. Secrets are judged at the end, by their histories. */
  end(call: Call, answer: Answer): void {
    call.answered = ++this.#instant
    call.answer = answer
    const { ask } = call
    if (answer.kind === 'refused')
      check(REFUSALS[ask.kind].includes(answer.slug), `${ask.kind} was refused: ${answer.slug}`)
    if (ask.kind === 'tokenize' && answer.kind === 'tokens') this.#issued(call, ask, answer)
    if (ask.kind === 'detokenize' && answer.kind === 'values') this.#resolved(call, ask, answer.values)
    const epoch = epochOf(call)
    if (epoch !== undefined) this.#checkEpoch(call, epoch)
    if (ask.kind === 'rotate' && answer.kind === 'rotated') {
      check(answer.epoch === ask.to, 'law 4: another epoch was opened than the one asked for')
      const name = `${ask.owner}@${ask.to}`
      check(!answer.rotated || !this.#rotations.has(name), `law 4: ${name} was opened twice`)
      if (answer.rotated) this.#rotations.add(name)
    }
    if (ask.kind === 'rotate' && answer.kind === 'refused')
      check(epoch !== ask.to && epoch !== ask.to - 1, 'law 4: a rotation was refused without a reason')
  }

  /** Tokens with their owners, in the order of issue. */
  get issues(): IterableIterator<[string, { owner: string; value: string }]> {
    return this.#issues.entries()
  }

  #issued(
    { answered }: Call,
    { owner, values }: Extract<Ask, { kind: 'tokenize' }>,
    { epoch, tokens }: Extract<Answer, { kind: 'tokens' }>,
  ): void {
    check(tokens.length === values.length, 'every value has a token')
    for (const [i, value] of values.entries()) {
      const token = tokens[i]
      check(token.startsWith(`tok_${epoch}_`), 'law 3: an answer has tokens of one epoch')
      const name = JSON.stringify([owner, epoch, value])
      check((this.#tokens.get(name) ?? token) === token, 'law 2: a value has two tokens')
      const issue = this.#issues.get(token)
      check(
        !issue || (issue.owner === owner && issue.value === value),
        'law 2: a token stands for two values',
      )
      this.#tokens.set(name, token)
      if (!issue) this.#issues.set(token, { owner, value, answered })
    }
  }

  #resolved(
    { asked }: Call,
    { owner, tokens }: Extract<Ask, { kind: 'detokenize' }>,
    values: readonly (string | undefined)[],
  ): void {
    for (const [i, token] of tokens.entries()) {
      const issue = this.#issues.get(token)
      if (!issue || issue.owner !== owner)
        check(values[i] === undefined, 'law 9: a token of another owner, or of nobody, has a value')
      else {
        const known = issue.answered < asked
        check(!known || values[i] !== undefined, 'laws 1 and 6: an acknowledged token was not found')
        check(values[i] === undefined || values[i] === issue.value, 'law 2: a token has another value')
      }
    }
  }

  /** Laws 3 and 4: the epoch was active at an instant between question and answer. */
  #checkEpoch({ ask: { owner }, asked, answered }: Call, epoch: number): void {
    for (const other of this.calls) {
      if (other.ask.owner !== owner || other.answered >= asked) continue
      check((epochOf(other) ?? 0) <= epoch, 'laws 3 and 4: an epoch that was closed before the question')
    }
    const opened = this.calls.some(
      ({ ask, asked: from }) =>
        ask.kind === 'rotate' && ask.owner === owner && ask.to === epoch && from < answered,
    )
    check(epoch <= 1 || opened, 'law 3: an epoch that nobody has opened')
  }

  // ---- secrets, at the end

  /** Judges all calls about secrets by the histories at the end: JSON of owner and name to lines. */
  judgeSecrets(histories: ReadonlyMap<string, readonly Line[]>): void {
    const effects = new Map<string, Map<string, Line>>()
    for (const [name, lines] of histories) {
      for (const [i, line] of lines.entries()) {
        check(line.version === i + 1, 'law 4: versions are gapless')
        const next = lines[i + 1]?.validFrom ?? null
        check(line.validTo === next && (next === null || next > line.validFrom), 'intervals are gapless')
        const call = this.#callById.get(line.request)
        const [, secret] = JSON.parse(name)
        const asked = call?.ask.kind === 'write' && call.ask.names.includes(secret)
        check(asked, `a version that nobody has written: ${line.request}`)
        const of = effects.get(line.request) ?? new Map<string, Line>()
        check(!of.has(name), 'law 4: a write has two effects on a secret')
        effects.set(line.request, of.set(name, line))
      }
    }
    for (const call of this.calls) if (call.ask.kind === 'write') this.#judgeWrite(call, call.ask, effects)
    this.#judgeKeys(effects)
    for (const call of this.calls) this.#judgeRead(call, histories)
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
    for (const call of this.calls) {
      if (call.ask.kind !== 'write' || call.ask.key === undefined) continue
      const name = JSON.stringify([call.ask.owner, call.ask.key])
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
        check(!before || !ended || answer.slug === 'not-ready', 'a success under the key was refused later')
      }
    }
  }

  #judgeRead(call: Call, histories: ReadonlyMap<string, readonly Line[]>): void {
    const { ask, answer, asked, answered } = call
    for (const [name, version] of versionsIn(call)) {
      const line = histories.get(name)?.[version - 1]
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
        const now = histories.get(nameOf(ask))?.[version - 1]
        check(now?.request === request, 'law 5: a history was told otherwise')
      }
    if (ask.kind === 'read' && ask.version !== undefined) {
      if (answer.kind === 'refused')
        check(this.#seen(nameOf(ask), asked) < ask.version, 'law 6: a known version was not found')
      return
    }
    const latest = latestIn(call)
    for (const [name, version] of latest)
      check(version >= this.#seen(name, asked), 'law 4: an old version as the latest')
  }

  /** The latest version of the secret that anybody knew before the instant. */
  #seen(name: string, before: number): number {
    let seen = 0
    for (const call of this.calls) {
      if (call.answered >= before) continue
      for (const [other, version] of versionsIn(call)) if (other === name) seen = Math.max(seen, version)
    }
    return seen
  }
}

/** The epoch that an answer calls active. */
function epochOf({ answer, ask }: Call): number | undefined {
  if (answer.kind === 'refused') return ask.kind === 'rotate' ? answer.number : undefined
  return 'epoch' in answer ? answer.epoch : undefined
}

function nameOf(ask: Ask): string {
  return JSON.stringify([ask.owner, 'name' in ask ? ask.name : ''])
}

/** The versions that an answer shows. */
function versionsIn({ ask, answer }: Call): [string, number][] {
  if (ask.kind === 'write' && answer.kind === 'written')
    return ask.names.map((name) => [JSON.stringify([ask.owner, name]), answer.version])
  if (answer.kind === 'secret') return [[nameOf(ask), answer.version]]
  if (answer.kind === 'lines') return [[nameOf(ask), answer.lines.length]]
  if (ask.kind !== 'write' || answer.kind !== 'refused') return []
  if (answer.slug === 'version-conflict')
    return ask.names.map((name) => [JSON.stringify([ask.owner, name]), answer.number ?? 0])
  return (answer.names ?? []).map((name) => [JSON.stringify([ask.owner, name]), 1])
}

/** The versions that an answer calls the latest; 0: there is no such secret. */
function latestIn(call: Call): [string, number][] {
  const { ask, answer } = call
  if (answer.kind === 'secret' || answer.kind === 'lines') return versionsIn(call)
  if (answer.kind !== 'refused') return []
  if (answer.slug === 'version-conflict') return versionsIn(call)
  if (answer.slug !== 'not-found') return []
  const names = ask.kind === 'write' ? ask.names : 'name' in ask ? [ask.name] : []
  return names.map((name) => [JSON.stringify([ask.owner, name]), 0])
}
