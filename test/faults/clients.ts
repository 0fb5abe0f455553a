// Clients of real nodes: calls at random, each answer judged. Values and names are bounded unless `fresh` is set.
import { sleep } from '../../src/waiting.ts'
import { type Answer, type Ask, Judge, Violation, type Write } from '../sim/judge.ts'
import type { Random } from '../sim/seed.ts'
import { check } from '../sim/violation.ts'
import { askNode, BROKEN } from './asking.ts'
import { Pauses } from './pauses.ts'

const CLIENTS = 8
const MOST_PAUSE_MS = 40
/** A 503 comes within 5 s of the last byte of its request, and a loaded machine may be slower. */
const LATE_MS = 6500
const VALUES = 120
const NAMES = 6
/** Some values are long. */
const LENGTHS = [12, 12, 12, 30, 30, 900]

/** A node, or a relay in front of a node. */
export type Door = { readonly name: string; readonly url: string }
export type ClientOptions = {
  readonly random: Random
  /** API keys by owner. */
  readonly keys: Readonly<Record<string, string>>
  readonly doors: readonly Door[]
  /** In each value, so that a value in clear can be looked for. */
  readonly marker: string
  /** New values for ever, with hardly a pause. */
  readonly fresh?: boolean
  /** When a 503 is late, in milliseconds. */
  readonly lateMs?: number
}

export class Clients {
  judge = new Judge()
  /** Answers by kind of call, and why there was no answer. */
  readonly counts = new Map<string, number>()
  /** The slowest 503, or call without an answer in time, since `begin`; the pauses of this process taken off. */
  slowest: { readonly name: string; readonly ms: number } | undefined
  /** The secrets that are written and read. */
  names: readonly string[]
  readonly #options: ClientOptions
  #stop = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  #ids = 0
  #values = 0
  #writes = 0
  #mayRotate = 0
  #shared: Write | undefined
  readonly #pauses = new Pauses()
  #holds: { readonly names: readonly string[]; readonly from: number; to: number }[] = []

  constructor(options: ClientOptions) {
    this.#options = options
    this.names = this.namesOf(0)
  }

  get owners(): readonly string[] {
    return Object.keys(this.#options.keys)
  }

  /** How many calls were answered with what was asked for. */
  get done(): number {
    return this.judge.calls.filter(
      ({ answer: { kind } }) => kind !== 'unknown' && kind !== 'refused' && kind !== 'not-applied',
    ).length
  }

  namesOf(group: number): readonly string[] {
    return Array.from({ length: NAMES }, (_, i) => `s/${group}/${i}`)
  }

  /** Begins anew: another judge, other secrets, `rotations` more rotations. */
  begin(judge: Judge, names: readonly string[], rotations: number): void {
    this.judge = judge
    this.names = names
    this.#mayRotate = rotations
    this.#shared = undefined
    this.slowest = undefined
    this.#holds = this.#holds.filter(({ to }) => to === Number.POSITIVE_INFINITY)
  }

  start(): void {
    this.#stop = new AbortController()
    const { signal } = this.#stop
    this.#running = Promise.all(Array.from({ length: CLIENTS }, () => this.#client(signal)))
    this.#running.catch(() => this.#stop.abort())
  }

  /** Rejects with the first violation. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #client(signal: AbortSignal): Promise<void> {
    const { random, doors, fresh = false } = this.#options
    while (!signal.aborted) {
      await this.ask(random.pick(doors), this.#next())
      await sleep(random.below(fresh ? 5 : MOST_PAUSE_MS))
    }
  }

  /** From now on until the returned function is called, the nodes stand still, lose their disk, or are hard to reach. */
  hold(names: readonly string[]): () => void {
    const hold = { names, from: performance.now(), to: Number.POSITIVE_INFINITY }
    this.#holds.push(hold)
    return () => {
      hold.to = performance.now()
    }
  }

  #heldMs(name: string, begin: number, end: number): number {
    const mine = this.#holds.filter(({ names }) => names.includes(name))
    return mine.reduce((sum, { from, to }) => sum + Math.max(0, Math.min(to, end) - Math.max(from, begin)), 0)
  }

  /** One call, judged. Throws Violation. */
  async ask(door: Door, asked: Ask): Promise<Answer> {
    const { judge } = this
    const { lateMs = LATE_MS } = this.#options
    const id = `${this.#options.marker}-${this.#ids++}`
    const call = judge.begin(asked, id)
    const [began, paused] = [performance.now(), this.#pauses.ms]
    let told: unknown
    try {
      const { answer, problem, isFault } = await askNode(door.url, this.#options.keys[asked.owner], {
        asked,
        id,
      })
      told = answer
      const what = problem ?? (answer.kind === 'refused' ? answer.slug : 'answered')
      const name = `${asked.kind}: ${what}`
      this.counts.set(name, (this.counts.get(name) ?? 0) + 1)
      const end = performance.now()
      const held = this.#heldMs(door.name, began, end)
      const ms = end - began - (this.#pauses.ms - paused)
      const is503 = problem !== undefined && problem !== BROKEN
      if (is503 && ms > (this.slowest?.ms ?? 0)) this.slowest = { name, ms }
      check(!isFault || held > 0, `law 7: a fault of the node: ${what}`)
      check(!is503 || ms - held <= lateMs, `law 7: ${what} after ${ms.toFixed(0)} ms`)
      judge.end(call, answer)
      return answer
    } catch (error) {
      const where = JSON.stringify({ door: door.name, id, asked, answer: told }).slice(0, 2000)
      throw new Violation(`${error instanceof Error ? error.message : error}: ${where}`, { cause: error })
    }
  }

  // ---- what clients ask

  #next(): Ask {
    const { random } = this.#options
    const owner = random.pick(this.owners)
    const name = random.pick(this.names)
    const kind = random.below(100)
    if (kind < 35) return { kind: 'tokenize', owner, values: this.#someValues() }
    if (kind < 60) return { kind: 'detokenize', owner, tokens: this.#someTokens() }
    if (kind < 64) return this.#rotation(owner)
    if (kind < 70) return { kind: 'epochs', owner }
    if (kind < 85) return this.#write(owner)
    if (kind < 94) return { kind: 'read', owner, name }
    if (kind < 98) return { kind: 'read', owner, name, version: 1 + random.below(4) }
    return { kind: 'history', owner, name }
  }

  #someValues(): string[] {
    const { random, fresh = false } = this.#options
    const count = random.chance(0.05) ? 60 : 1 + random.below(6)
    return Array.from({ length: count }, () =>
      this.#text(fresh && random.chance(0.7) ? VALUES + this.#values++ : random.below(VALUES)),
    )
  }

  #text(number: number): string {
    const text = `${this.#options.marker} ${number} `
    return text.padEnd(LENGTHS[number % LENGTHS.length] + text.length, 'value ')
  }

  /** Known ones of any owner, the newest more often, and forged ones. */
  #someTokens(): string[] {
    const { random } = this.#options
    const known = [...this.judge.issues].map(([token]) => token)
    return Array.from({ length: 1 + random.below(6) }, () => {
      const some = random.chance(0.5) ? known.slice(-20) : known
      const token = some.length > 0 ? random.pick(some) : 'tok_1_00000000000000000000000000000000'
      return random.chance(0.05) ? `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}` : token
    })
  }

  #rotation(owner: string): Ask {
    if (this.#mayRotate === 0) return { kind: 'epochs', owner }
    let active = 1
    for (const { ask, answer } of this.judge.calls)
      if (ask.owner === owner && 'epoch' in answer) active = Math.max(active, answer.epoch)
    this.#mayRotate--
    return { kind: 'rotate', owner, to: active + 1 }
  }

  #write(owner: string): Write {
    const { random, marker } = this.#options
    if (this.#shared && random.chance(0.4)) return this.#shared
    const create = random.chance(0.3)
    const [first, second] = [random.pick(this.names), random.pick(this.names)]
    const write: Write = {
      kind: 'write',
      owner,
      names: create ? [...new Set([first, second])] : [first],
      value: this.#text(this.#writes++),
      create,
      after: !create && random.chance(0.4) ? 1 + random.below(6) : undefined,
      key: random.chance(0.5) ? `${marker} ${this.#writes}` : undefined,
    }
    if (write.key !== undefined) this.#shared = write
    return write
  }
}
