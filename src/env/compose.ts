// A line of a .env file as Docker Compose reads the line (compose-go, dotenv/parser.go).

const HEAD = /^[ \t]*(?:export[ \t]+)?[A-Za-z0-9_.-]+[ \t]*=[ \t]*/
/** Not empty: behind an empty value a comment would be the value. */
const PLAIN = /^[A-Za-z0-9_@%+:,./=-]+$/
/** Escapes in "…". */
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['"', '"'],
  ['\\', '\\'],
])
/** Further escapes of Go, unknown to Node and dotenv. */
const GO_ESCAPE = /[abcfv0]/

/** The value as compose reads the line; undefined: no entry, or a line with a part for compose to expand. */
export function composeReads(line: string): string | undefined {
  const head = HEAD.exec(line)
  if (!head) return undefined
  // Compose takes CRLF for a line feed everywhere.
  const rest = line.slice(head[0].length).replaceAll('\r\n', '\n')
  const quote = rest.charAt(0)
  if (quote !== "'" && quote !== '"') return readUnquoted(rest)
  const read = quote === "'" ? readSingle(rest) : readDouble(rest)
  return read && /^\s*(?:#.*)?\n?$/.test(rest.slice(read.end)) ? read.value : undefined
}

function readUnquoted(rest: string): string | undefined {
  const [first, ...more] = rest.replace(/\n$/, '').split('\n')
  const value = first.split(' #')[0].replace(/[\s\x85]+$/, '')
  // A blank that only compose knows may be at the beginning.
  return more.length > 0 || /^[\s\x85]|\$/.test(value) ? undefined : value
}

type Read = { readonly value: string; readonly end: number }

/** A backslash is removed before the quote only; two backslashes are two. */
function readSingle(rest: string): Read | undefined {
  let value = ''
  for (let i = 1; i < rest.length; i++) {
    const char = rest[i]
    if (char === "'") return { value, end: i + 1 }
    if (char !== '\\') value += char
    else {
      const next = rest.charAt(++i)
      value += next === "'" ? next : char + next
    }
  }
  return undefined
}

function readDouble(rest: string): Read | undefined {
  let value = ''
  for (let i = 1; i < rest.length; i++) {
    const char = rest[i]
    if (char === '"') return { value, end: i + 1 }
    const next = rest.charAt(i + 1)
    if (char === '$' && next !== '$') return undefined
    if (char === '$') {
      value += char
      i++
    } else if (char !== '\\') value += char
    else {
      i++
      if (next === '$' || GO_ESCAPE.test(next)) return undefined
      value += ESCAPES.get(next) ?? char + next
    }
  }
  return undefined
}

/** The value as compose reads the value back, whatever its characters but NUL. */
export function quotedForCompose(value: string): string {
  if (PLAIN.test(value)) return value
  const single = `'${value}'`
  if (readSingle(single)?.value === value && !value.includes("'") && !value.includes('\r')) return single
  const escaped = value.replace(/[\\"]/g, '\\$&').replaceAll('$', '$$$$').replaceAll('\r', '\\r')
  return `"${escaped}"`
}
