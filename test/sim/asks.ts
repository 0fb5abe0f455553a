// What clients ask a vault, and what they are answered, in the words of the judge.

/** `by`: the id of the API key. */
export type Ask = AskOf & { readonly by?: string | undefined }

type AskOf =
  | { readonly kind: 'tokenize'; readonly owner: string; readonly values: readonly string[] }
  | { readonly kind: 'detokenize'; readonly owner: string; readonly tokens: readonly string[] }
  | { readonly kind: 'retokenize'; readonly owner: string; readonly tokens: readonly string[] }
  | { readonly kind: 'rotate'; readonly owner: string; readonly to: number }
  | { readonly kind: 'epochs'; readonly owner: string }
  | Write
  | Read
  | {
      readonly kind: 'resolve'
      readonly owner: string
      readonly refs: readonly Ref[]
      readonly at?: number | undefined
    }
  | { readonly kind: 'history'; readonly owner: string; readonly name: string }
  | { readonly kind: 'names'; readonly owner: string }

export type Ref = { readonly name: string; readonly version: number | undefined }

/** `at`: milliseconds since 1970; without `version`. */
type Read = {
  readonly kind: 'read'
  readonly owner: string
  readonly name: string
  readonly version?: number | undefined
  readonly at?: number | undefined
}

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
  /** Undefined where a token was not found. */
  | { readonly kind: 'retokens'; readonly epoch: number; readonly tokens: readonly (string | undefined)[] }
  | { readonly kind: 'names'; readonly names: readonly string[] }
  | { readonly kind: 'values'; readonly values: readonly (string | undefined)[] }
  | { readonly kind: 'rotated'; readonly epoch: number; readonly rotated: boolean }
  /** `counts`: of the tokens of each epoch from 1 on. */
  | { readonly kind: 'active'; readonly epoch: number; readonly counts?: readonly number[] }
  | {
      readonly kind: 'written'
      readonly version: number
      readonly validFrom: number
      readonly replayed: boolean
    }
  | { readonly kind: 'secret'; readonly version: number; readonly value: string }
  | { readonly kind: 'resolved'; readonly values: readonly string[] }
  | { readonly kind: 'lines'; readonly lines: readonly Line[] }
  | {
      readonly kind: 'refused'
      readonly slug: string
      readonly number?: number | undefined
      readonly names?: readonly string[]
      /** Places of references that were not found. */
      readonly missing?: readonly number[]
    }
  /** 503, and nothing has happened. */
  | { readonly kind: 'not-applied' }
  /** 503, a broken connection, or no answer yet: what was asked may happen, or not. */
  | { readonly kind: 'unknown' }

export type Call = {
  readonly id: string
  readonly ask: Ask
  readonly asked: number
  /** Of the node's wall clock, in milliseconds since 1970, from question to answer. */
  clock: readonly [from: number, to: number]
  /** Infinity before the answer. */
  answered: number
  answer: Answer
}

/** The text by which histories are known. */
export function secretOf(owner: string, name: string): string {
  return JSON.stringify([owner, name])
}
