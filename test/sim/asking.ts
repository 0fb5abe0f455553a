// Asks a simulated node as the HTTP side does, and says what was answered in the words of the judge.

import { AssertionError } from '../../src/assert.ts'
import { type Clock, Deadline } from '../../src/clock.ts'
import { fromCanonical, Values } from '../../src/crypto/canonical.ts'
import { readTokenText, tokenLength, tokenPrefix, writeTokenText } from '../../src/crypto/token.ts'
import { Problem } from '../../src/errors.ts'
import { checkRight, type Identity } from '../../src/http/auth.ts'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import type { Claim, WriteResult } from '../../src/secrets/receipts.ts'
import type { RunningNode } from '../../src/server/running-node.ts'
import type { NodeServices } from '../../src/server/services.ts'
import type { EpochList } from '../../src/tokens/epochs.ts'
import type { Answer, Ask, Write } from './asks.ts'
import { keyOf, NEEDS } from './judge-access.ts'
import { OWN_KEY } from './operator.ts'

/** As long as a request has at the edge. */
export const REQUEST_MS = 4500
const VALUE_BYTES = 32 * 1024

/** Throws errors that no answer may come from. */
export async function ask(
  services: NodeServices,
  { apiKeys, clock }: RunningNode,
  { asked, id, body }: Asked,
): Promise<Answer> {
  const header = `Bearer ${keyOf(asked.owner, asked.by ?? OWN_KEY)}`
  let caller: Identity | undefined
  try {
    for (const part of ['head', 'body']) {
      caller = apiKeys.identifyAgain(caller, header)
      if (!caller) return { kind: 'refused', slug: 'unauthorized' }
      checkRight(caller, NEEDS[asked.kind])
      if (part === 'head') await body()
    }
    return await answerTo(services, { clock, asked, id, deadline: new Deadline(clock, REQUEST_MS) })
  } catch (error) {
    return failure(error)
  }
}

type Asked = {
  readonly asked: Ask
  readonly id: string
  /** Resolves when the body has come. */
  readonly body: () => Promise<void>
}

type Request = {
  readonly clock: Clock
  readonly asked: Ask
  readonly id: string
  readonly deadline: Deadline
}

async function answerTo({ tokens, secrets, ...services }: NodeServices, request: Request): Promise<Answer> {
  const { asked, deadline } = request
  const { owner } = asked
  const by = { owner, deadline }
  switch (asked.kind) {
    case 'tokenize': {
      const values = new Values()
      for (const value of asked.values) values.pushString(value, VALUE_BYTES)
      const { epoch, bodies, checks } = await tokens.tokenize(by, values, false)
      return { kind: 'tokens', epoch, tokens: texts(epoch, bodies, checks, asked.values.length) }
    }
    case 'detokenize': {
      const { values, index } = await tokens.detokenize(by, named(asked.tokens))
      const text = (i: number): string =>
        String(fromCanonical(values.bytes, values.offset[i] * 8, values.length[i]))
      return { kind: 'values', values: [...index].map((i) => (i < 0 ? undefined : text(i))) }
    }
    case 'retokenize': {
      const { epoch, bodies, checks, index } = await tokens.retokenize(by, named(asked.tokens))
      const text = texts(epoch, bodies, checks, 1 + Math.max(-1, ...index))
      return { kind: 'retokens', epoch, tokens: [...index].map((i) => (i < 0 ? undefined : text[i])) }
    }
    case 'names':
      return { kind: 'names', names: await secrets.names(by, { prefix: '', after: '', limit: 1000 }) }
    case 'rotate': {
      const { epoch, rotated } = await tokens.rotate(by, asked.to)
      return { kind: 'rotated', epoch, rotated }
    }
    case 'epochs':
      return epochsAnswer(await tokens.epochs(by))
    case 'write': {
      const { version, validFrom, replayed } = await write({ tokens, secrets, ...services }, request, asked)
      return { kind: 'written', version, validFrom, replayed }
    }
    case 'read': {
      const at = asked.at === undefined ? {} : { at: asked.at }
      const which = asked.version === undefined ? at : { version: asked.version }
      const { version, value } = await secrets.read(by, asked.name, which)
      return { kind: 'secret', version, value: value.toString('utf8') }
    }
    case 'resolve': {
      const { values, missing } = await secrets.resolve(by, asked.refs, asked.at, () => undefined)
      if (missing.length > 0) return { kind: 'refused', slug: 'refs-not-found', missing }
      return { kind: 'resolved', values: values.map((value) => value.toString('utf8')) }
    }
    case 'history': {
      const lines = await secrets.history(by, asked.name)
      return {
        kind: 'lines',
        lines: lines.map(({ requestId, ...line }) => ({ ...line, request: requestId })),
      }
    }
  }
}

/** The texts of the first `count` tokens, cut out of one string. */
function texts(epoch: number, bodies: Uint8Array, checks: Uint8Array, count: number): string[] {
  const [prefix, length] = [tokenPrefix(epoch), tokenLength(epoch)]
  const bytes = Buffer.alloc(count * length)
  for (let i = 0; i < count; i++) {
    bytes.set(prefix, i * length)
    writeTokenText(bytes, i * length + prefix.length, bodies, i * 16, checks, i * 16)
  }
  const text = bytes.toString('latin1')
  const list: string[] = []
  for (let i = 0; i < count; i++) list.push(text.slice(i * length, (i + 1) * length))
  return list
}

function epochsAnswer({ active, epochs }: EpochList): Answer {
  return { kind: 'active', epoch: active, counts: epochs.map(({ tokens }) => tokens) }
}

function named(texts: readonly string[]): Parameters<NodeServices['tokens']['detokenize']>[1] {
  const count = texts.length
  const [bodies, checks] = [new Uint8Array(16 * count), new Uint8Array(4 * count)]
  const epochs = new Float64Array(count)
  const bytes = Buffer.from(texts.join(''), 'latin1')
  let at = 0
  for (const [i, { length }] of texts.entries()) {
    epochs[i] = readTokenText(bytes, at, at + length, bodies, checks, i)
    at += length
  }
  return { count, epochs, bodies, checks }
}

/** With and without an Idempotency-Key. */
async function write(
  { secrets, receipts }: NodeServices,
  { id, deadline, asked: { by = OWN_KEY } }: Request,
  { owner, names, value, create, after, key }: Write,
): Promise<WriteResult> {
  const caller = { owner, deadline, keyId: by, request: id }
  const list = names.map((name) => ({ name, value: Buffer.from(value) }))
  const matches = (version: number): boolean => after === undefined || version === after
  const work = (claim?: Claim): Promise<WriteResult> =>
    create ? secrets.create(caller, list, claim) : secrets.update(caller, list[0], matches, claim)
  if (key === undefined) return work()
  const body = Buffer.from(JSON.stringify([names, value]))
  const asked = { method: create ? 'POST' : 'PUT', name: names[0], ifMatch: String(after), body }
  const begun = await receipts.begin({ owner, keyId: by, idempotencyKey: key }, asked, deadline)
  if (begun.kind === 'answered') return begun.written
  try {
    return await work(begun.claim)
  } catch (error) {
    return await receipts.successInstead(begun.claim, error, deadline)
  } finally {
    receipts.settle(begun.claim)
  }
}

function failure(error: unknown): Answer {
  if (error instanceof UnknownOutcome) return { kind: 'unknown' }
  if (error instanceof LedgerUnavailable)
    return { kind: error.reason === 'ledger-changed' ? 'unknown' : 'not-applied' }
  if (error instanceof Problem && !(error instanceof AssertionError) && error.status < 500) {
    const { version, epoch, names } = error.members
    return {
      kind: 'refused',
      slug: error.slug,
      number: (version ?? epoch) as number | undefined,
      names: (names ?? []) as string[],
    }
  }
  if (error instanceof Problem && error.slug === 'not-ready')
    return { kind: 'refused', slug: error.slug, names: [] }
  throw error
}
