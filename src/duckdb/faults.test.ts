// Texts of DuckDB that quote values, and texts that stay.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OperatorError } from '../errors.ts'
import { OwnErrors, toOperatorError } from './faults.ts'

function told(message: string, context: Parameters<typeof toOperatorError>[1] = {}): string {
  const error = toOperatorError(new Error(message), context)
  assert.ok(error instanceof OperatorError)
  assert.equal(error.cause, undefined, 'a cause has the values again')
  return error.message
}

test('errors about rows: the class and a known beginning', () => {
  const rest = 'may quote values, and is left out'
  for (const [message, expected] of [
    [
      'Invalid Input Error: Invalid string encoding found in Parquet file "/d/a.parquet": value "secret" is not valid UTF8!',
      `Invalid Input Error: Invalid string encoding found in Parquet file "/d/a.parquet"; the rest of the text ${rest}`,
    ],
    [
      `Invalid Input Error: Could not parse string "secret" according to format specifier "%Y"\nsecret\n^\nError: Expected`,
      `Invalid Input Error: the text ${rest}`,
    ],
    [
      'Constraint Error: Duplicate key "ssn: secret" violates unique constraint.',
      `Constraint Error: Duplicate key; the rest of the text ${rest}`,
    ],
    [
      `Conversion Error: Type INT64 with value 1234567890123 can't be cast because the value is out of range`,
      `Conversion Error: the text ${rest}`,
    ],
    [
      "Conversion Error: Could not convert string 'secret' to INT32",
      `Conversion Error: Could not convert string; the rest of the text ${rest}`,
    ],
    [
      'Invalid Input Error: CSV Error on Line: 17\nOriginal Line: secret,secret\nExpected Number of Columns: 3',
      `Invalid Input Error: CSV Error on Line: 17; the rest of the text ${rest}`,
    ],
    [
      'TransactionContext Error: Failed to commit: PRIMARY KEY or UNIQUE constraint violation: duplicate key "secret"',
      `TransactionContext Error: Failed to commit; the rest of the text ${rest}`,
    ],
    ['Out of Range Error: secret', `Out of Range Error: the text ${rest}`],
    ['INTERNAL Error: secret', `INTERNAL Error: the text ${rest}`],
  ])
    assert.equal(told(message), expected)
})

test('the place in the own statement stays, and no other text that looks like one', () => {
  const known = "SELECT CAST('x' AS INTEGER) FROM t"
  const place = `\n\nLINE 1: ${known}\n               ^`
  const cut = `\n\nLINE 1: ...CAST('x' AS INTEGER)...\n               ^`
  const message = "Conversion Error: Could not convert string 'x' to INT32"
  for (const each of [place, cut]) {
    assert.ok(told(message + each, { known }).endsWith(each))
    assert.ok(!told(message + each).includes('LINE'))
  }
  const forged = "Conversion Error: Could not convert string 'x\n\nLINE 1: secret\n^"
  assert.doesNotMatch(told(forged, { known }), /secret/)
})

test('errors about statements keep their text, without the members of an ENUM', () => {
  for (const message of [
    'Parser Error: syntax error at or near "SELEC"\n\nLINE 1: SELEC 1\n        ^',
    'Catalog Error: Table with name t does not exist!\nDid you mean "u"?',
    'Out of Memory Error: failed to allocate data of size 1.0 MiB (38.1 MiB/38.1 MiB used)',
    'something of the package',
  ])
    assert.equal(told(message), message)
  assert.equal(
    told("Binder Error: No function matches '+(ENUM('secret', 'it''s secret'), INTEGER)'"),
    "Binder Error: No function matches '+(ENUM(…), INTEGER)'",
  )
})

test('errors of the system keep the names that the user has written', () => {
  const known = "COPY t TO 'out' (PARTITION_BY ssn)"
  assert.equal(
    told('IO Error: Cannot open file "out": Permission denied', { known }),
    'IO Error: Cannot open file "out": Permission denied',
  )
  assert.equal(
    told('IO Error: Failed to create directory "out/ssn=secret": Permission denied', { known }),
    'IO Error: Failed to create directory …: Permission denied',
  )
})

test('errors that our functions have thrown pass whole, and no others of their class', () => {
  const own = new OwnErrors()
  own.add(new OperatorError('column ssn: the vault is away'))
  own.add(new SyntaxError('Unexpected token secret'))
  assert.equal(
    told('Invalid Input Error: column ssn: the vault is away', { own }),
    'column ssn: the vault is away',
  )
  const known = 'SELECT tokenize(x)'
  const place = `\n\nLINE 1: ${known}\n               ^`
  assert.equal(
    told(`Invalid Input Error: column ssn: the vault is away${place}`, { own, known }),
    `column ssn: the vault is away${place}`,
  )
  for (const other of ['column ssn: the vault is away secret', 'Unexpected token secret'])
    assert.doesNotMatch(told(`Invalid Input Error: ${other}`, { own }), /secret/)
})
