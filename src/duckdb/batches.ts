// Distinct values in requests of bounded size, several at once.
import {
  BYTES_A_REQUEST,
  inParts,
  REQUESTS_AT_ONCE,
  type RequestSize,
  VALUES_A_REQUEST,
} from '../table/requests.ts'
import type { Operation, Scalar, Vault } from '../table/vault.ts'

export type Question = {
  readonly operation: Operation
  /** Without nulls. */
  readonly values: readonly Scalar[]
  /** For `tokenize`: tokens are tokenized as other strings, instead of refused. */
  readonly allowTokens?: boolean
}

/** `answers[i]` belongs to value i; null: not found. `epochs`: the epochs of new tokens, in any order. */
export type Answers = { readonly answers: readonly Scalar[]; readonly epochs: readonly number[] }

/** Asks in batches, at most `REQUESTS_AT_ONCE` under way. Throws the errors of the vault. */
export async function askAll(vault: Vault, question: Question, size: RequestSize): Promise<Answers> {
  const batches = [...cut(question.values)]
  const found: (readonly Scalar[])[] = new Array(batches.length)
  const epochs = new Set<number>()
  let next = 0
  const work = async (): Promise<void> => {
    while (next < batches.length) {
      const at = next++
      const { answers, epochs: own } = await askBatch(vault, { ...question, values: batches[at] }, size)
      found[at] = answers
      for (const epoch of own) epochs.add(epoch)
    }
  }
  await Promise.all(Array.from({ length: Math.min(REQUESTS_AT_ONCE, batches.length) }, work))
  return { answers: found.length === 1 ? found[0] : found.flat(), epochs: [...epochs] }
}

/**
 * Asks in a request, or in several where the answers are long or the vault refuses the size. Throws the
 * errors of the vault.
 */
export async function askBatch(vault: Vault, question: Question, size: RequestSize): Promise<Answers> {
  const answers: Scalar[] = []
  const epochs = new Set<number>()
  const askPart = async (from: number, to: number): Promise<void> => {
    const part = await ask(vault, { ...question, values: question.values.slice(from, to) })
    answers.push(...part.answers)
    size.seen(
      part.answers.length,
      part.answers.reduce<number>((sum, answer) => sum + bytesOf(answer), 0),
    )
    for (const epoch of part.epochs) epochs.add(epoch)
  }
  await inParts(askPart, 0, question.values.length, size)
  return { answers, epochs: [...epochs] }
}

async function ask(vault: Vault, { operation, values, allowTokens = false }: Question): Promise<Answers> {
  if (operation === 'tokenize') {
    const { tokens, epoch } = await vault.tokenize(values, { allowTokens })
    return { answers: tokens, epochs: [epoch] }
  }
  const tokens = values.map((value) => (typeof value === 'string' ? value : null))
  if (operation === 'detokenize') return { answers: (await vault.detokenize(tokens)).values, epochs: [] }
  const { tokens: renewed, epoch } = await vault.retokenize(tokens)
  return { answers: renewed, epochs: renewed.some((each) => each !== null) ? [epoch] : [] }
}

/** Parts of at most `VALUES_A_REQUEST` values and about `BYTES_A_REQUEST` of JSON; a value at least. */
function* cut(values: readonly Scalar[]): Generator<readonly Scalar[]> {
  let from = 0
  let bytes = 0
  for (let i = 0; i < values.length; i++) {
    const size = bytesOf(values[i])
    if (i > from && (i - from === VALUES_A_REQUEST || bytes + size > BYTES_A_REQUEST)) {
      yield values.slice(from, i)
      from = i
      bytes = 0
    }
    bytes += size
  }
  if (from < values.length) yield from === 0 ? values : values.slice(from)
}

/** Bytes in JSON, roughly: the limit of the vault is many times as large as `BYTES_A_REQUEST`. */
function bytesOf(value: Scalar): number {
  return typeof value === 'string' ? value.length + 3 : 25
}
