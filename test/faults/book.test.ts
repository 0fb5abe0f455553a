// A judge of a later fault knows what earlier judges have seen acknowledged.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Ask, Judge, type Line, Violation } from '../sim/judge.ts'
import { Book } from './book.ts'

const TOKEN = 'tok_1_0123456789abcdefghjkmnpqrstvwxyz'
const LATER = 'tok_2_0123456789abcdefghjkmnpqrstvwxyz'
const OF_A = JSON.stringify(['a', 's/1'])
const first: Line = { version: 1, validFrom: 10, validTo: null, request: 'r1' }

/** Of owner a: a token in each of two epochs, and the first version of a secret. */
function earlier(): Book {
  const judge = new Judge()
  const tokenize: Ask = { kind: 'tokenize', owner: 'a', values: ['x'] }
  judge.end(judge.begin(tokenize), { kind: 'tokens', epoch: 1, tokens: [TOKEN] })
  const rotate: Ask = { kind: 'rotate', owner: 'a', to: 2 }
  judge.end(judge.begin(rotate), { kind: 'rotated', epoch: 2, rotated: true })
  judge.end(judge.begin(tokenize), { kind: 'tokens', epoch: 2, tokens: [LATER] })
  const write: Ask = { kind: 'write', owner: 'a', names: ['s/1'], value: 'v1', create: true }
  const written = { kind: 'written', version: 1, validFrom: 10, replayed: false } as const
  judge.end(judge.begin(write, 'r1'), written)
  const histories = new Map([[OF_A, [first]]])
  judge.judgeSecrets(histories)
  const book = new Book()
  book.add(judge, histories)
  return book
}

const later = (): Judge => earlier().judge(['s/1'])

test('a token of an earlier fault that is lost, or that another owner resolves, is a violation', () => {
  const ask = (owner: string, values: readonly (string | undefined)[]) => (): void => {
    const judge = later()
    judge.end(judge.begin({ kind: 'detokenize', owner, tokens: [TOKEN] }), { kind: 'values', values })
  }
  ask('a', ['x'])()
  ask('b', [undefined])()
  assert.throws(ask('a', [undefined]), Violation)
  assert.throws(ask('a', ['y']), Violation)
  assert.throws(ask('b', ['x']), Violation)
})

test('a closed epoch, and a second token of a value, are violations', () => {
  const ask = (epoch: number, token: string) => (): void => {
    const judge = later()
    const call = judge.begin({ kind: 'tokenize', owner: 'a', values: ['x'] })
    judge.end(call, { kind: 'tokens', epoch, tokens: [token] })
  }
  ask(2, LATER)()
  assert.throws(ask(1, TOKEN), Violation)
  assert.throws(ask(2, LATER.replace('z', 'y')), Violation)
})

test('a version that is lost, or that was written by another call, is a violation', () => {
  const judge = (lines: readonly Line[]) => (): void => later().judgeSecrets(new Map([[OF_A, lines]]))
  judge([first])()
  assert.throws(judge([]), Violation)
  assert.throws(judge([{ ...first, request: 'r2' }]), Violation)
  assert.throws(judge([{ ...first, validFrom: 11 }]), Violation)
})

test('versions and tokens of all owners are listed', () => {
  assert.deepEqual(earlier().versions, [{ owner: 'a', name: 's/1', version: 1, value: 'v1' }])
  const tokens: string[] = []
  for (const [token] of later().issues) tokens.push(token)
  assert.deepEqual(tokens, [TOKEN, LATER])
})
