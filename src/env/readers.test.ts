// Lines as a shell and Docker Compose read them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { composeReads, quotedForCompose } from './compose.ts'
import { quotedForSh, shReads } from './sh.ts'

test('lines as sh reads them', () => {
  for (const [line, value] of [
    ['A=b', 'b'],
    ['export A=b # c', 'b'],
    ['A=\'$x\'"y"z', '$xyz'],
    ['A=a#b', 'a#b'],
    ["A='it'\\''s'", "it's"],
    ['A=', ''],
    ...['A = b', 'A=b c', 'A=$x', 'A="$x"', 'A=`x`', 'A=~', "A='b", 'A="a\\b"', 'A=b\r\n', 'A.B=c'].map(
      (text) => [text, undefined] as const,
    ),
  ] as const)
    assert.equal(shReads(line), value, line)
  assert.equal(quotedForSh("it's"), "'it'\\''s'")
})

test('lines as compose-go reads them', () => {
  for (const [line, value] of [
    ['A=b #c', 'b'],
    ['A=b#c', 'b#c'],
    ['export A = b', 'b'],
    ["A='$x\\n\\'y' # z", "$x\\n'y"],
    ['A="a\\nb$$c\\"\\\\"', 'a\nb$c"\\'],
    ['A= # c', '# c'],
    ['A="b"\r\n', 'b'],
    ['9.x-y=1', '1'],
    ['export export=1', '1'],
    ...['A=$x', `A="\${x}"`, "A='b", 'A="\\$x"', 'A="\\a"', 'B'].map((text) => [text, undefined] as const),
  ] as const)
    assert.equal(composeReads(line), value, line)
  assert.equal(quotedForCompose(`it's $x\\`), `"it's $$x\\\\"`)
})
