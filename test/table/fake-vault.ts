// A vault in memory, with tokens made from a hash of the value, and an epoch that a test sets.
import { createHash } from 'node:crypto'
import type { ByteVault, Scalar, Vault } from '../../src/table/vault.ts'

const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz'

export class FakeVault implements Vault {
  epoch = 1
  readonly requests: number[] = []
  /** Called before each answer. */
  before: (values: readonly unknown[]) => void | Promise<void> = () => undefined
  readonly #values = new Map<string, Scalar>()

  token(value: Scalar, epoch = this.epoch): string {
    const hash = createHash('sha256').update(JSON.stringify(value)).digest()
    return `tok_${epoch}_${Array.from(hash, (byte) => DIGITS[byte & 31]).join('')}`
  }

  async tokenize(values: readonly Scalar[]): ReturnType<Vault['tokenize']> {
    await this.#answer(values)
    const { epoch } = this
    const tokens = values.map((value) => {
      const token = this.token(value, epoch)
      this.#values.set(token, value)
      return token
    })
    return { epoch, tokens }
  }

  async detokenize(tokens: readonly (string | null)[]): ReturnType<Vault['detokenize']> {
    await this.#answer(tokens)
    const values = tokens.map((token) => this.#values.get(token ?? '') ?? null)
    return { values, notFound: values.flatMap((value, i) => (value === null ? [i] : [])) }
  }

  async retokenize(tokens: readonly (string | null)[]): ReturnType<Vault['retokenize']> {
    const { values, notFound } = await this.detokenize(tokens)
    const { epoch } = this
    const answers = values.map((value) => (value === null ? null : this.token(value, epoch)))
    for (const [i, token] of answers.entries()) if (token !== null) this.#values.set(token, values[i])
    return { epoch, tokens: answers, notFound }
  }

  async #answer(values: readonly unknown[]): Promise<void> {
    this.requests.push(values.length)
    await this.before(values)
  }
}

/** The calls of a vault as bytes. */
export function byBytes(vault: Vault): ByteVault {
  const answer = async (path: string, body: Buffer): Promise<object> => {
    const { values, tokens, allow_tokens: allowTokens = false } = JSON.parse(body.toString('utf8'))
    if (path === '/tokenize') return vault.tokenize(values, { allowTokens })
    if (path === '/retokenize') {
      const { notFound, ...answer } = await vault.retokenize(tokens)
      return { ...answer, not_found: notFound }
    }
    const answer = await vault.detokenize(tokens)
    return { values: answer.values, not_found: answer.notFound }
  }
  return { post: async (path, body) => Buffer.from(JSON.stringify(await answer(path, body))) }
}
