// Strict YAML 1.2: plain data only. Refused: aliases and anchors (a few lines can expand to gigabytes), tags,
// repeated members, several documents. The messages of the library quote the source, and the source may hold
// a secret: only the library's error codes are used.
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import { type ConfigFault, configPath, REFUSED } from './config-value.ts'

const MAX_CHARACTERS = 4 * 1024 * 1024
const MAX_DEPTH = 32
// One unclosed bracket makes the parser complain many times; only the first complaints help.
const MAX_SYNTAX_FAULTS = 10

const SYNTAX: Readonly<Record<string, string>> = {
  BAD_DIRECTIVE: 'directives (lines with %) are not allowed; remove it',
  BAD_INDENT: 'the indentation is wrong, or a bracket above is not closed',
  BAD_DQ_ESCAPE: 'unknown escape in double quotes; use single quotes or write \\\\',
  BLOCK_AS_IMPLICIT_KEY: 'a colon too many; put text with a colon and a space in quotes',
  MISSING_CHAR: 'a quote, bracket, comma or colon is missing',
  MULTIPLE_DOCS: 'a second document begins here; keep one',
  NON_STRING_KEY: 'a member name must be text',
  RESOURCE_EXHAUSTION: 'nested too deeply',
  TAB_AS_INDENT: 'indented with a tab; use spaces',
  TAG_RESOLVE_FAILED: 'tags (`!name`) are not allowed; remove it',
  UNEXPECTED_TOKEN: 'not expected here; put text that begins with [ { & * ! | > % @ in quotes',
}

/**
 * The data of one YAML document: strings, numbers, booleans, null, arrays, objects. A faulty value is added
 * to `faults`, and replaced by `REFUSED`.
 */
export function readYaml(text: string, faults: ConfigFault[]): unknown {
  if (text.length > MAX_CHARACTERS) {
    faults.push({ path: '', message: `longer than ${MAX_CHARACTERS} characters; is it the right file?` })
    return REFUSED
  }
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    // An explicit schema: else a %YAML 1.1 line would bring back `yes`, octal 010 and merge keys.
    schema: 'core',
    merge: false,
    resolveKnownTags: false,
    stringKeys: true,
    // plain() finds repeated members: with their paths, and not in quadratic time.
    uniqueKeys: false,
  })
  const complaints = [...document.errors, ...document.warnings].slice(0, MAX_SYNTAX_FAULTS)
  for (const { code, pos } of complaints) {
    const { line, col } = lines.linePos(pos[0])
    faults.push({ path: '', message: `line ${line}, column ${col}: ${SYNTAX[code] ?? 'this is not YAML'}` })
  }
  return complaints.length > 0 ? REFUSED : plain(document.contents, '', 0, faults)
}

function plain(node: unknown, path: string, depth: number, faults: ConfigFault[]): unknown {
  const refuse = (message: string) => {
    faults.push({ path, message })
    return REFUSED
  }
  if (node === null) return null
  if (depth > MAX_DEPTH) return refuse(`nested deeper than ${MAX_DEPTH} levels`)
  if (isAlias(node)) return refuse('aliases (`*name`) are not allowed; write the value out')
  if (!isScalar(node) && !isSeq(node) && !isMap(node)) return refuse('this is not plain data')
  if (node.anchor !== undefined) return refuse('anchors (`&name`) are not allowed; remove it')
  if (isScalar(node)) return node.value
  if (isSeq(node)) return node.items.map((item, i) => plain(item, `${path}[${i}]`, depth + 1, faults))
  const members = new Map<string, unknown>()
  for (const [index, { key, value }] of node.items.entries()) {
    if (!isScalar(key) || typeof key.value !== 'string' || key.anchor !== undefined) {
      refuse(`the name of member ${index + 1} must be plain text`)
      continue
    }
    const inner = configPath(path, key.value, index)
    const twice = members.has(key.value)
    if (twice) faults.push({ path: inner, message: 'this member is there twice; keep one' })
    else members.set(key.value, plain(value, inner, depth + 1, faults))
  }
  // Object.fromEntries defines `__proto__` as an ordinary member; an assignment would not.
  return Object.fromEntries(members)
}
