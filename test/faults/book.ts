// What was acknowledged so far, over all judges of a run: tokens and versions of secrets. A judge looks at each pair of
// calls, so each fault gets a new judge, and the book tells the new judge what the earlier ones know.
import { type Answer, type Ask, Judge, type Line } from '../sim/judge.ts'

/** A version as written: `names` are all secrets of the same call. */
type Written = {
  readonly owner: string
  readonly names: readonly string[]
  readonly value: string
  readonly version: number
  readonly validFrom: number
}
export type Version = Omit<Written, 'names' | 'validFrom'> & { readonly name: string }

export class Book {
  /** Owner, then epoch, then value to token. */
  readonly #tokens = new Map<string, Map<number, Map<string, string>>>()
  /** By the id of the call. */
  readonly #written = new Map<string, Written>()

  /** Takes over what a judge has found right. `histories` as for `judgeSecrets`. */
  add(judge: Judge, histories: ReadonlyMap<string, readonly Line[]>): void {
    for (const [token, { owner, value }] of judge.issues) {
      const [, epoch] = token.split('_')
      this.#epochOf(owner, Number(epoch)).set(value, token)
    }
    const asks = new Map(judge.calls.map(({ id, ask }) => [id, ask]))
    for (const lines of histories.values()) {
      for (const { request, version, validFrom } of lines) {
        const ask = asks.get(request)
        if (ask?.kind !== 'write') continue
        const { owner, names, value } = ask
        this.#written.set(request, { owner, names, value, version, validFrom })
      }
    }
  }

  #epochOf(owner: string, epoch: number): Map<string, string> {
    const epochs = this.#tokens.get(owner) ?? new Map<number, Map<string, string>>()
    const values = epochs.get(epoch) ?? new Map<string, string>()
    this.#tokens.set(owner, epochs.set(epoch, values))
    return values
  }

  /** Epoch `active` of the owner is open. */
  opened(owner: string, active: number): void {
    for (let epoch = 1; epoch <= active; epoch++) this.#epochOf(owner, epoch)
  }

  /** A judge that knows all tokens, and the versions of the secrets that are named. */
  judge(names: readonly string[]): Judge {
    const judge = new Judge()
    const say = (ask: Ask, answer: Answer, id?: string): void => judge.end(judge.begin(ask, id), answer)
    for (const [owner, epochs] of this.#tokens) {
      for (const epoch of [...epochs.keys()].sort((a, b) => a - b)) {
        if (epoch > 1) say({ kind: 'rotate', owner, to: epoch }, { kind: 'rotated', epoch, rotated: true })
        const values = this.#epochOf(owner, epoch)
        if (values.size === 0) continue
        const ask: Ask = { kind: 'tokenize', owner, values: [...values.keys()] }
        say(ask, { kind: 'tokens', epoch, tokens: [...values.values()] })
      }
    }
    const known = [...this.#written].filter(([, written]) =>
      written.names.some((name) => names.includes(name)),
    )
    for (const [id, written] of known.sort(([, a], [, b]) => a.version - b.version)) {
      const { owner, value, version, validFrom } = written
      const ask: Ask = { kind: 'write', owner, names: written.names, value, create: version === 1 }
      say(ask, { kind: 'written', version, validFrom, replayed: false }, id)
    }
    return judge
  }

  get versions(): Version[] {
    return [...this.#written.values()].flatMap(({ names, owner, value, version }) =>
      names.map((name) => ({ owner, name, value, version })),
    )
  }
}
