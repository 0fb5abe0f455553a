// npm run timing -- [--each N]: whether the time of `not found` tells foreign, forged and never issued tokens apart, all of
// an epoch that the caller has. Each token is asked for once, by `POST /detokenize`, the kinds in turn in random order.
import { cpSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { compare } from './mann-whitney.ts'
import { apiKey, Vault } from './vault.ts'

const KINDS = ['foreign', 'forged', 'random', 'lost'] as const
type Kind = (typeof KINDS)[number]
const ABOUT: Readonly<Record<Kind, string>> = {
  foreign: 'a token of another owner',
  forged: 'a token of the caller, with another check',
  random: 'never issued: random characters',
  lost: 'never issued, with the right check, as only who has the keys can make (of a copy of the vault)',
}
const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz'
const WARM_UP = 2000
const digit = (): string => DIGITS[Math.floor(Math.random() * DIGITS.length)]

/** Tokens of texts that begin with `name`. */
async function issue(url: string, owner: string, name: string, count: number): Promise<string[]> {
  const values = Array.from({ length: count }, (_, i) => `${name}-${i}`)
  const headers = { authorization: `Bearer ${apiKey(owner)}`, 'content-type': 'application/json' }
  const answer = await fetch(`${url}/tokenize`, { method: 'POST', headers, body: JSON.stringify({ values }) })
  if (!answer.ok) throw new Error(await answer.text())
  const { tokens } = (await answer.json()) as { tokens: string[] } // as docs/api.md has the answer
  return tokens
}

/** The tokens of each kind. The vault runs then, and is as before the lost tokens were issued. */
async function tokensOf(vault: Vault, dir: string, count: number): Promise<Record<Kind, string[]>> {
  await vault.start()
  const own = await issue(vault.url, 'own', 'own', count)
  const foreign = await issue(vault.url, 'other', 'other', count)
  await vault.stop()
  cpSync(dir, `${dir}-before`, { recursive: true })
  await vault.start()
  const lost = await issue(vault.url, 'own', 'lost', count)
  await vault.stop()
  rmSync(dir, { recursive: true })
  renameSync(`${dir}-before`, dir)
  await vault.start()
  const forged = own.map((token) => {
    const last = token.at(-1) ?? ''
    return token.slice(0, -1) + DIGITS[(DIGITS.indexOf(last) + 1 + Math.floor(Math.random() * 31)) % 32]
  })
  const random = Array.from({ length: count }, () => `tok_1_${Array.from({ length: 32 }, digit).join('')}`)
  return { foreign, forged, random, lost }
}

/** One connection without pipelining. Returns microseconds from the write to the end of the answer. */
class Line {
  readonly #socket: Socket
  readonly #host: string

  constructor(url: string) {
    const { hostname, port, host } = new URL(url)
    this.#host = host
    this.#socket = connect({ host: hostname, port: Number(port), noDelay: true })
  }

  async ask(token: string): Promise<number> {
    const body = JSON.stringify({ token })
    const head = `POST /detokenize HTTP/1.1\r\nHost: ${this.#host}\r\nAuthorization: Bearer ${apiKey('own')}\r\n`
    const request = `${head}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    let answer = ''
    const onData = (chunk: Buffer): void => {
      answer += chunk.toString('latin1')
      if (!answer.endsWith('}')) return
      const took = (performance.now() - started) * 1000
      this.#socket.off('data', onData)
      if (answer.startsWith('HTTP/1.1 404 ')) resolve(took)
      else reject(new Error(answer))
    }
    this.#socket.on('data', onData)
    const started = performance.now()
    this.#socket.write(request)
    return promise
  }

  close(): void {
    this.#socket.destroy()
  }
}

function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((each) => [Math.random(), each] as const)
    .sort(([a], [b]) => a - b)
    .map(([, each]) => each)
}

function report(times: Record<Kind, Float64Array>): void {
  for (const kind of KINDS) {
    const sorted = times[kind].toSorted()
    const at = [0.05, 0.5, 0.95].map((share) =>
      sorted[Math.floor(share * sorted.length)].toFixed(1).padStart(7),
    )
    console.log(`${kind.padEnd(8)} p5, p50, p95 µs: ${at.join(' ')}   ${ABOUT[kind]}`)
  }
  for (const [i, a] of KINDS.entries())
    for (const b of KINDS.slice(i + 1)) {
      const { share, p } = compare(times[a], times[b])
      console.log(`${`${a} above ${b}`.padEnd(22)} ${(share * 100).toFixed(2)} %   p = ${p.toPrecision(3)}`)
    }
}

const { values } = parseArgs({ options: { each: { type: 'string' } } })
const each = Number(values.each ?? 20_000)
if (!Number.isSafeInteger(each) || each < 10)
  throw new Error('--each takes a number of tokens of each kind, from 10')
const root = mkdtempSync(join(tmpdir(), 'coffer-timing-'))
const vault = new Vault(join(root, 'vault'), ['own', 'other'])
try {
  const tokens = await tokensOf(vault, join(root, 'vault'), each)
  const line = new Line(vault.url)
  for (let i = 0; i < WARM_UP; i++) await line.ask(`tok_1_${Array.from({ length: 32 }, digit).join('')}`)
  const times = Object.fromEntries(KINDS.map((kind) => [kind, new Float64Array(each)])) as Record<
    Kind,
    Float64Array
  >
  for (let i = 0; i < each; i++)
    for (const kind of shuffled(KINDS)) times[kind][i] = await line.ask(tokens[kind][i])
  line.close()
  console.log(`${each} tokens of each kind, in turn, in random order`)
  report(times)
} finally {
  await vault.remove()
  rmSync(root, { recursive: true, force: true })
}
