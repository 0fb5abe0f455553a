// Golden scenarios of the machine, after the interaction tests of etcd-io/raft: the files in testdata/ hold
// commands and, below `----`, the expected output. Every file runs on both stores, with the same output. To
// write the expected output anew: COFFER_REWRITE=1 node --test src/state/step.test.ts; then read the
// difference.
//
// Commands:
//   step [checkpoint=NAME:PAGES]   The revisions in the lines below are a single step: its batch (with the
//                                  changed fields of meta only) is written, its effects are applied.
//   load                           The state is read again from the store; the content must be the same.
//   show                           All of meta, and the records of the store.
//   digest                         The first digits of the digest.
//   find OWNER@EPOCH IDS           The places of mappings.
//
// The lines of a step: `@R` begins a revision, `@R part` and `@R whole` the parts of a snapshot, in which the
// revision of an entry stands before the entry, and `created=R` after the entry where the key was created by a
// put that the file does not have. Entries, with IDS such as 1-40,7:
//   genesis ROOTKEY · boot BOOT NODE · node NODE ROOTKEY,… · epoch OWNER N · key OWNER@N ROOTKEY ·
//   tombstone OWNER@N · segment BOOT/N OWNER@EPOCH IDS [units=U] · version OWNER/NAME@V VALIDFROM ROOTKEY TEXT ·
//   receipt OWNER/NAME · remove OWNER/NAME (a receipt)
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openApplier } from '../../test/sim/applier.ts'
import { contentOf, placeOf } from '../../test/sim/content.ts'
import {
  bootPut,
  epochPut,
  genesisPut,
  hashOf,
  keyPut,
  nodePut,
  receiptPut,
  receiptRemoval,
  segmentPut,
  type TestPut,
  tombstonePut,
  versionPut,
} from '../../test/sim/puts.ts'
import { AssertionError } from '../assert.ts'
import { LmdbStore } from '../replica/lmdb-store.ts'
import { MemoryStore } from '../replica/memory-store.ts'
import type { Store } from '../replica/store.ts'
import { Tables } from '../replica/tables.ts'
import type { Effect } from './effects.ts'
import { type Decoded, decodePuts } from './puts.ts'
import { State } from './state.ts'
import { type DecodedRevision, step } from './step.ts'
import type { Meta } from './stored.ts'

type Step = ReturnType<typeof step>

const TESTDATA = join(import.meta.dirname, 'testdata')
const REWRITE = process.env.COFFER_REWRITE === '1'
const LEDGER = 'e'.repeat(32)

type Command = {
  readonly name: string
  readonly args: readonly string[]
  readonly lines: readonly string[]
  readonly expected: string
}

/** A store that can be opened again with what was written before. */
type Reopened = { readonly open: () => Promise<Store>; readonly remove: () => Promise<void> }

const STORES: Readonly<Record<string, () => Reopened>> = {
  memory: () => {
    let store: MemoryStore | undefined
    const open = async (): Promise<Store> => (store = store?.afterKill() ?? new MemoryStore())
    return { open, remove: async () => undefined }
  },
  lmdb: () => {
    const path = mkdtempSync(join(tmpdir(), 'coffer-step-'))
    let store: LmdbStore | undefined
    const open = async (): Promise<Store> => {
      await store?.close()
      return (store = new LmdbStore(path))
    }
    const remove = async (): Promise<void> => {
      await store?.close()
      rmSync(path, { recursive: true })
    }
    return { open, remove }
  },
}

/** A machine over a store, and the names that a scenario has used. */
class Scenario {
  readonly #reopened: Reopened
  #store: Store
  #state = new State()
  #tables = new Tables()
  /** Revision of the put that created a key, by key. */
  readonly #created = new Map<string, number>()
  readonly #receipts = new Map<string, string>()
  loads = 0
  stepsAfterLoad = 0

  private constructor(reopened: Reopened, store: Store) {
    this.#reopened = reopened
    this.#store = store
  }

  static async begin(reopened: Reopened): Promise<Scenario> {
    return new Scenario(reopened, await reopened.open())
  }

  async run({ name, args, lines }: Command): Promise<string> {
    switch (name) {
      case 'step':
        return this.#step(args, lines)
      case 'load':
        return this.#load()
      case 'show':
        return this.#show()
      case 'digest':
        return this.#state.digest().slice(0, 16)
      case 'find':
        return this.#find(args)
      default:
        throw new Error(`unknown command ${name}`)
    }
  }

  async #step(args: readonly string[], lines: readonly string[]): Promise<string> {
    const checkpoint = args[0]?.replace(/^checkpoint=(\w+):(\d+)$/, '$1 $2')
    const before = this.#state.meta
    let made: Step
    try {
      made = step(this.#state, { revisions: this.#revisions(lines), ledger: LEDGER, checkpoint })
    } catch (error) {
      if (error instanceof AssertionError) return error.message
      throw error
    }
    await this.#store.write(made.batch)
    const effects: string[] = []
    for (const effect of made.effects) {
      const known = this.#tables.mappings
      this.#state.apply(effect, this.#tables)
      const text = this.#effectText(effect, this.#tables.mappings - known)
      if (text !== '') effects.push(`  ${text}`)
    }
    if (this.loads > 0) this.stepsAfterLoad++
    const batch = this.#batchText(made, before).map((line) => `  ${line}`)
    return ['batch', ...batch, 'effects', ...effects].join('\n')
  }

  async #load(): Promise<string> {
    const before = contentOf(this.#state, this.#tables, { places: true })
    this.#store = await this.#reopened.open()
    const loaded = await openApplier(this.#store)
    this.#state = loaded.state
    this.#tables = loaded.tables
    assert.deepEqual(
      contentOf(this.#state, this.#tables, { places: true }),
      before,
      'a state is what was stored',
    )
    this.loads++
    return `cursor ${this.#state.applied}, ${this.#tables.mappings} mappings`
  }

  #show(): string {
    const records = [...this.#store.records()].map(
      ({ number, key, revision }) => `${number}: ${this.#short(key)} @${revision}`,
    )
    const meta = Object.entries(flat(this.#state.meta)).map(([field, value]) => `${field} ${value}`)
    return [...meta.map((line) => this.#short(line)), ...records.map((line) => `record ${line}`)].join('\n')
  }

  #find([place, ids]: readonly string[]): string {
    const [owner, epoch] = place.split('@')
    const lines = idsOf(ids).map((id) => {
      const found = placeOf(this.#tables, owner, Number(epoch), id)
      return `${id}: ${found ? `page ${found.page} slot ${found.slot}` : 'not there'}`
    })
    return lines.join('\n')
  }

  // ---- reading the lines of a step

  #revisions(lines: readonly string[]): DecodedRevision[] {
    const revisions: DecodedRevision[] = []
    for (let at = 0; at < lines.length; ) {
      const [, number, kind] = /^@(\d+)(?: (part|whole))?$/.exec(lines[at++]) ?? []
      if (number === undefined) throw new Error(`a revision begins with @: ${lines[at - 1]}`)
      const body: string[] = []
      while (at < lines.length && !lines[at].startsWith('@')) body.push(lines[at++])
      if (kind === undefined) revisions.push(this.#revision(Number(number), body))
      else revisions.push(this.#part(Number(number), kind as 'part' | 'whole', body)) // by the pattern
    }
    return revisions
  }

  #revision(revision: number, lines: readonly string[]): DecodedRevision {
    const puts = lines.map((line) => this.#put(line.split(' '), revision))
    return { revision, ...decodePuts(revision, puts) }
  }

  #part(revision: number, snapshot: 'part' | 'whole', lines: readonly string[]): DecodedRevision {
    const decoded: Decoded[] = []
    for (const line of lines) {
      const [number, ...words] = line.split(' ')
      const created = /^created=(\d+)$/.exec(words.at(-1) ?? '')?.[1]
      if (created !== undefined) words.pop()
      const put = this.#put(words, Number(number), created === undefined ? undefined : Number(created))
      decoded.push(...decodePuts(Number(number), [put]).decoded)
    }
    return { revision, decoded, removed: [], snapshot }
  }

  #put(words: readonly string[], revision: number, created?: number): TestPut & { created: number } {
    const put = putOf(words)
    if (words[0] === 'receipt' || words[0] === 'remove')
      this.#receipts.set(hashOf(words[1].split('/')[1]), words[1].split('/')[1])
    if (put.value === null) this.#created.delete(put.key)
    else this.#created.set(put.key, created ?? this.#created.get(put.key) ?? revision)
    return { ...put, created: this.#created.get(put.key) ?? 0 }
  }

  // ---- writing

  #batchText({ batch }: Step, before: Meta): string[] {
    const lines: string[] = []
    for (const { number, table, page } of batch.pages)
      lines.push(`page ${number}: table ${table}, ${page[8]} mappings`)
    for (const { key, revision } of batch.entries) lines.push(`entry ${this.#short(key)} @${revision}`)
    for (const { number, entry } of batch.records)
      lines.push(`record ${number}: ${entry ? `${this.#short(entry.key)} @${entry.revision}` : 'removed'}`)
    for (const { id, owner, epoch, dropped } of batch.tables)
      lines.push(`table ${id}: ${owner}@${epoch}${dropped ? ' dropped' : ''}`)
    for (const range of batch.ranges) lines.push(this.#rangeText(range))
    for (const { owner, bytes } of batch.owners) lines.push(`owner ${owner}: ${bytes} bytes`)
    const [old, now] = [flat(before), flat(batch.meta)]
    for (const field of Object.keys({ ...old, ...now }))
      if (old[field] !== now[field]) lines.push(this.#short(`meta ${field} ${now[field] ?? 'none'}`))
    return lines
  }

  #rangeText({
    boot,
    range,
    last,
    count,
  }: {
    boot: string
    range: number
    last: number
    count: number
  }): string {
    return `range ${this.#short(`${boot}/${range}`)}: ${count} up to ${last}`
  }

  /** '' for an effect that the batch shows as well. */
  #effectText(effect: Effect, change: number): string {
    switch (effect.kind) {
      case 'table':
        return `${effect.table.dropped ? 'drop' : 'add'} table ${effect.table.id}${change < 0 ? `, ${-change} mappings gone` : ''}`
      case 'insert':
        return `insert ${effect.segment.count} mappings from page ${effect.page} on into table ${effect.table}: ${change} new`
      case 'entry':
        return `${this.#short(effect.put.key)} @${effect.put.revision} created ${effect.put.created}, record ${effect.record}`
      case 'receipt': {
        const name = [...this.#receipts].find(
          ([hash]) => effect.id === Buffer.from(hash, 'hex').toString('latin1', 0, 16),
        )?.[1]
        return `receipt ${effect.owner}/${name}: ${effect.record === undefined ? 'gone' : `record ${effect.record}`}`
      }
      case 'seen':
        return `snapshot ${effect.revision} has brought record ${effect.record}`
      case 'applied':
        return `applied ${effect.revision}`
      default:
        return ''
    }
  }

  /** Keys without what only makes them long. */
  #short(text: string): string {
    return text
      .replace(/([0-9a-f])\1{31}/g, '$1')
      .replace(/([@/])0+(\d+)/g, '$1$2')
      .replace(/[0-9a-f]{64}/g, (hash) => this.#receipts.get(hash) ?? hash)
  }
}

/** Fields of meta by their path; of witnesses without checksums. */
function flat(meta: Meta): Record<string, string> {
  const fields: Record<string, string> = {}
  for (const [name, value] of Object.entries(meta)) {
    if (name === 'stored')
      for (const [kind, count] of Object.entries(value)) fields[`stored.${kind}`] = String(count)
    else if (name === 'witnesses')
      for (const [slot, { key, revision, created }] of Object.entries(meta.witnesses))
        fields[`witness.${slot}`] = `${key} @${revision} created ${created}`
    else if (name === 'ahead')
      fields.ahead = meta.ahead.map(({ to, revision }) => `up to ${to} @${revision}`).join(', ') || 'none'
    else fields[name] = String(value) || 'none'
  }
  return fields
}

function putOf([kind, ...words]: readonly string[]): TestPut {
  const [first, second, third] = words
  const [owner, number] = [first.split(/[@/]/)[0], Number(first.split(/[@/]/).at(-1))]
  switch (kind) {
    case 'genesis':
      return genesisPut(LEDGER, first)
    case 'boot':
      return bootPut(first, second)
    case 'node':
      return nodePut(first, second.split(','))
    case 'epoch':
      return epochPut(first, Number(second))
    case 'key':
      return keyPut(owner, number, second)
    case 'tombstone':
      return tombstonePut(owner, number)
    case 'segment': {
      const [place, epoch] = second.split('@')
      const units = Number(words[3]?.replace('units=', '') ?? 2)
      return segmentPut({
        boot: owner,
        n: number,
        owner: place,
        epoch: Number(epoch),
        ids: idsOf(third),
        units,
      })
    }
    case 'version': {
      const name = first.slice(owner.length + 1, first.lastIndexOf('@'))
      return versionPut({
        owner,
        name,
        version: number,
        validFrom: Number(second),
        rootKey: third,
        text: words[3],
      })
    }
    case 'receipt':
      return receiptPut(owner, first.split('/')[1])
    case 'remove':
      return receiptRemoval(owner, first.split('/')[1])
    default:
      throw new Error(`unknown entry ${kind}`)
  }
}

/** Numbers such as 1-40,7. */
function idsOf(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [from, to = from] = part.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  })
}

// ---- files

/** A scenario as commands, with the comments before each. */
function commandsOf(text: string): { readonly before: string; readonly command: Command | undefined }[] {
  const lines = text.split('\n')
  const parts: { before: string; command: Command | undefined }[] = []
  for (let at = 0; at < lines.length; ) {
    const before: string[] = []
    while (at < lines.length && (lines[at] === '' || lines[at].startsWith('#'))) before.push(lines[at++])
    if (at === lines.length) {
      parts.push({ before: before.join('\n'), command: undefined })
      break
    }
    const [name, ...args] = lines[at++].split(' ')
    const input: string[] = []
    while (at < lines.length && lines[at] !== '----') input.push(lines[at++])
    at++
    const expected: string[] = []
    while (at < lines.length && lines[at] !== '') expected.push(lines[at++])
    parts.push({
      before: before.join('\n'),
      command: { name, args, lines: input, expected: expected.join('\n') },
    })
  }
  return parts
}

async function play(file: string, reopened: Reopened): Promise<void> {
  const path = join(TESTDATA, file)
  const written: string[] = []
  try {
    const scenario = await Scenario.begin(reopened)
    for (const { before, command } of commandsOf(readFileSync(path, 'utf8'))) {
      written.push(before)
      if (!command) break
      const output = await scenario.run(command)
      if (!REWRITE)
        assert.equal(output, command.expected, [command.name, ...command.args, ...command.lines].join('\n'))
      written.push([[command.name, ...command.args].join(' '), ...command.lines, '----', output].join('\n'))
    }
    assert.ok(scenario.stepsAfterLoad > 0, 'a step begins from a state that was stored and loaded again')
    if (REWRITE) writeFileSync(path, `${written.join('\n').trim()}\n`)
  } finally {
    await reopened.remove()
  }
}

for (const file of readdirSync(TESTDATA)) {
  for (const [kind, open] of Object.entries(STORES)) test(`${file}, ${kind}`, () => play(file, open()))
}
