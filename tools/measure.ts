// Measures src/ without its tests: sizes, dead exports, asserts, the language of comments. `npm run measure`
// prints the numbers by room; test/tidy.test.ts imports them as ratchets. The contract suites of
// ledgers and stores count as tests.
//
//   --room NAME   measures one room, and lists its files by pronouns, long functions, dead exports, long lines,
//                 and the comment lines with pronouns
//   --json        prints the numbers as JSON
import { globSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import * as ast from 'typescript/unstable/ast'
import { API } from 'typescript/unstable/sync'

export const MAX_COLUMNS = 110
export const MAX_FUNCTION_LINES = 60
export const MAX_FILE_LINES = 400

/** Words that send a reader back to look for a noun. */
const PRONOUN = /^(?:it|this|that|these|those|what|which|one|they|them)$/i

/** Exports of the package, for programs outside of the repository. */
const PUBLIC_FILES = ['src/client/index.ts', 'src/duckdb/index.ts']

/** A line of a file; lines count from 1. */
export type Place = { readonly file: string; readonly line: number; readonly text: string }

export type FunctionSize = {
  readonly file: string
  readonly line: number
  readonly name: string
  readonly lines: number
}

/**
 * An export and its importers: `code` is other files of src/, `tests` is tests, benchmarks, tools and
 * examples only.
 */
export type Export = {
  readonly file: string
  readonly name: string
  readonly users: 'code' | 'public' | 'tests' | 'nobody'
}

/** Measures of one file. */
export type FileMeasure = {
  readonly file: string
  readonly room: string
  readonly lines: number
  readonly codeLines: number
  readonly commentLines: number
  readonly commentWords: number
  readonly pronouns: readonly Place[]
  readonly asserts: number
  readonly functions: readonly FunctionSize[]
  readonly longLines: readonly Place[]
  readonly exports: readonly Export[]
}

/** Numbers of one room or of all rooms. Shares are percentages. */
export type Summary = {
  readonly files: number
  readonly lines: number
  readonly medianLines: number
  readonly p90Lines: number
  readonly maxLines: number
  readonly longFunctions: number
  readonly maxFunctionLines: number
  readonly deadExports: number
  readonly testExports: number
  readonly assertsPerThousand: number
  readonly commentShare: number
  readonly pronounShare: number
  readonly longLines: number
}

/** The room of a file: its folder under src/, `ground` for files of the root. */
export function roomOf(file: string): string {
  const parts = file.split('/')
  return parts.length > 2 ? parts[1] : 'ground'
}

const CONTRACTS = ['src/ledger/contract.ts', 'src/replica/store-contract.ts']
const isTest = (file: string): boolean => file.endsWith('.test.ts') || CONTRACTS.includes(file)

/** Measures every file. `root` is the repository. */
export function measure(root = resolve(import.meta.dirname, '..')): FileMeasure[] {
  const api = new API({ cwd: root })
  try {
    const snapshot = api.updateSnapshot({ openProjects: [join(root, 'tsconfig.json')] })
    const program = snapshot.getProjects()[0].program
    const sourceOf = (file: string): ast.SourceFile => {
      const source = program.getSourceFile(join(root, file))
      if (!source) throw new Error(`${file} is not in tsconfig.json`)
      return source
    }
    const files = globSync('{src,test,bench,tools,examples}/**/*.ts', { cwd: root }).sort()
    const sources = new Map(files.map((file) => [file, sourceOf(file)]))
    const importers = importersOf(sources)
    return files
      .filter((file) => file.startsWith('src/') && !isTest(file))
      .map((file) => measureFile(file, sources.get(file)!, importers))
  } finally {
    api.close()
  }
}

function measureFile(file: string, source: ast.SourceFile, importers: Importers): FileMeasure {
  const { text } = source
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  const comments = commentsOf(source)
  const codeLines = new Set<number>()
  const bare = blankOut(text, comments).split('\n')
  for (const [i, line] of bare.entries()) if (line.trim() !== '') codeLines.add(i)
  const commentLines = new Set<number>()
  const words: Place[] = []
  for (const { start, end } of comments) {
    let line = source.getLineAndCharacterOfPosition(start).line
    for (const part of text.slice(start, end).split('\n')) {
      if (!codeLines.has(line)) commentLines.add(line)
      words.push(...wordsOf(part).map((word) => ({ file, line: line + 1, text: word })))
      line++
    }
  }
  return {
    file,
    room: roomOf(file),
    lines: lines.length,
    codeLines: codeLines.size,
    commentLines: commentLines.size,
    commentWords: words.length,
    pronouns: words.filter((word) => PRONOUN.test(word.text)),
    asserts: [...nodesOf(source)].filter(isAssert).length,
    functions: functionsOf(file, source),
    longLines: longLinesOf(file, lines),
    exports: exportsOf(source).map((name) => ({ file, name, users: usersOf(file, name, importers) })),
  }
}

/** Lines of more than MAX_COLUMNS characters. */
export function longLinesOf(file: string, lines: readonly string[]): Place[] {
  return lines.map((text, i) => ({ file, line: i + 1, text })).filter(({ text }) => text.length > MAX_COLUMNS)
}

/** Words of a comment, without code in backquotes. */
function wordsOf(comment: string): string[] {
  return comment.replace(/`[^`]*`/g, ' ').match(/[A-Za-z]+(?:['’](?!s\b)[a-z]+)?/g) ?? []
}

type Span = { readonly start: number; readonly end: number }

/** A node and all nodes below, in the order of the text. */
function* nodesOf(node: ast.Node): Generator<ast.Node> {
  yield node
  const children: ast.Node[] = []
  node.forEachChild((child) => {
    children.push(child)
  })
  for (const child of children) yield* nodesOf(child)
}

/**
 * Comments of a file. Strings, templates and regular expressions are skipped by their spans in the syntax
 * tree.
 */
function commentsOf(source: ast.SourceFile): Span[] {
  const { text } = source
  const literals: Span[] = []
  for (const node of nodesOf(source)) {
    if (isTextLiteral(node)) literals.push({ start: node.getStart(source), end: node.end })
  }
  const found: Span[] = []
  let at = 0
  for (const literal of [...literals, { start: text.length, end: text.length }]) {
    const between = /\/\/.*|\/\*[\s\S]*?\*\//g
    const part = text.slice(at, literal.start)
    for (const match of part.matchAll(between)) {
      found.push({ start: at + match.index, end: at + match.index + match[0].length })
    }
    at = literal.end
  }
  return found
}

function isTextLiteral(node: ast.Node): boolean {
  return (
    ast.isStringLiteral(node) ||
    ast.isNoSubstitutionTemplateLiteral(node) ||
    ast.isTemplateHead(node) ||
    ast.isTemplateMiddle(node) ||
    ast.isTemplateTail(node) ||
    ast.isRegularExpressionLiteral(node)
  )
}

/** The text with spaces for comments, line breaks kept. */
function blankOut(text: string, comments: readonly Span[]): string {
  let bare = ''
  let at = 0
  for (const { start, end } of comments) {
    bare += text.slice(at, start) + text.slice(start, end).replace(/[^\n]/g, ' ')
    at = end
  }
  return bare + text.slice(at)
}

function isAssert(node: ast.Node): boolean {
  return (
    ast.isCallExpression(node) &&
    ast.isIdentifier(node.expression) &&
    /^(?:assert|unreachable)$/.test(node.expression.text)
  )
}

/** Functions, methods, accessors, constructors and arrow functions, from their first line to their last. */
function functionsOf(file: string, source: ast.SourceFile): FunctionSize[] {
  const found: FunctionSize[] = []
  for (const node of nodesOf(source)) {
    if (!isFunction(node) || !node.body) continue
    const first = source.getLineAndCharacterOfPosition(node.getStart(source)).line
    const last = source.getLineAndCharacterOfPosition(node.end).line
    found.push({ file, line: first + 1, name: nameOf(node, source), lines: last - first + 1 })
  }
  return found
}

type FunctionNode =
  | ast.FunctionDeclaration
  | ast.FunctionExpression
  | ast.ArrowFunction
  | ast.MethodDeclaration
  | ast.ConstructorDeclaration
  | ast.GetAccessorDeclaration
  | ast.SetAccessorDeclaration

function isFunction(node: ast.Node): node is FunctionNode {
  return (
    ast.isFunctionDeclaration(node) ||
    ast.isFunctionExpression(node) ||
    ast.isArrowFunction(node) ||
    ast.isMethodDeclaration(node) ||
    ast.isConstructorDeclaration(node) ||
    ast.isGetAccessorDeclaration(node) ||
    ast.isSetAccessorDeclaration(node)
  )
}

function nameOf(node: FunctionNode, source: ast.SourceFile): string {
  if (ast.isConstructorDeclaration(node)) return 'constructor'
  if (!ast.isArrowFunction(node) && node.name) return node.name.getText(source)
  const { parent } = node
  if (ast.isVariableDeclaration(parent) || ast.isPropertyAssignment(parent))
    return parent.name.getText(source)
  if (ast.isPropertyDeclaration(parent)) return parent.name.getText(source)
  return 'function'
}

/** Names that a file exports. */
function exportsOf(source: ast.SourceFile): string[] {
  const names: string[] = []
  for (const statement of source.statements) {
    if (
      ast.isExportDeclaration(statement) &&
      statement.exportClause &&
      ast.isNamedExports(statement.exportClause)
    ) {
      for (const element of statement.exportClause.elements) names.push(element.name.text)
    } else if (isExported(statement)) {
      if (ast.isVariableStatement(statement)) {
        for (const { name } of statement.declarationList.declarations) names.push(name.getText(source))
      } else if ('name' in statement && statement.name) {
        names.push((statement.name as ast.Identifier).text)
      }
    }
  }
  return names
}

function isExported(statement: ast.Statement): boolean {
  const modifiers = (statement as { readonly modifiers?: readonly ast.Node[] }).modifiers ?? []
  return modifiers.some(({ kind }) => kind === ast.SyntaxKind.ExportKeyword)
}

/** Importing files by imported file and name; a name is `file name`. */
type Importers = ReadonlyMap<string, ReadonlySet<string>>

function importersOf(sources: ReadonlyMap<string, ast.SourceFile>): Importers {
  const importers = new Map<string, Set<string>>()
  for (const [file, source] of sources) {
    for (const { target, name } of importsOf(file, source, sources)) {
      const key = `${target} ${name}`
      const users = importers.get(key) ?? new Set()
      importers.set(key, users.add(file))
    }
  }
  return importers
}

type Import = { readonly target: string; readonly name: string }

/**
 * Names that a file imports. A file that is imported as a whole (`import * as`, `import()`, `typeof
 * import()`) counts with each exported name that stands as a word in the importing file.
 */
function importsOf(
  file: string,
  source: ast.SourceFile,
  sources: ReadonlyMap<string, ast.SourceFile>,
): Import[] {
  const found: Import[] = []
  const targetOf = (specifier: ast.Node): string =>
    join(dirname(file), specifier.getText(source).replace(/^['"`]|['"`]$/g, ''))
  const whole = (target: string): void => {
    const exported = sources.get(target)
    if (!exported) return
    const words = new Set(source.text.match(/\w+/g))
    for (const name of exportsOf(exported)) if (words.has(name)) found.push({ target, name })
  }
  for (const node of nodesOf(source)) {
    if (ast.isImportDeclaration(node)) {
      const bindings = node.importClause?.namedBindings
      const target = targetOf(node.moduleSpecifier)
      if (bindings && ast.isNamedImports(bindings)) {
        for (const { propertyName, name } of bindings.elements)
          found.push({ target, name: (propertyName ?? name).text })
      } else if (bindings) whole(target)
    } else if (ast.isExportDeclaration(node) && node.moduleSpecifier) {
      const target = targetOf(node.moduleSpecifier)
      if (node.exportClause && ast.isNamedExports(node.exportClause)) {
        for (const { propertyName, name } of node.exportClause.elements) {
          found.push({ target, name: (propertyName ?? name).text })
        }
      } else whole(target)
    } else if (ast.isCallExpression(node) && node.expression.kind === ast.SyntaxKind.ImportKeyword) {
      whole(targetOf(node.arguments[0]))
    } else if (ast.isImportTypeNode(node)) {
      whole(targetOf(node.argument))
    }
  }
  return found
}

function usersOf(file: string, name: string, importers: Importers): Export['users'] {
  if (PUBLIC_FILES.includes(file)) return 'public'
  const users = [...(importers.get(`${file} ${name}`) ?? [])].filter((user) => user !== file)
  if (users.some((user) => user.startsWith('src/') && !isTest(user))) return 'code'
  return users.length > 0 ? 'tests' : 'nobody'
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
const share = (part: number, whole: number): number => (whole === 0 ? 0 : (100 * part) / whole)

/** The numbers of files together. */
export function summarize(files: readonly FileMeasure[]): Summary {
  const lengths = files.map(({ lines }) => lines).sort((a, b) => a - b)
  const functions = files.flatMap((file) => file.functions)
  const exports = files.flatMap((file) => file.exports)
  const codeLines = sum(files.map((file) => file.codeLines))
  const commentLines = sum(files.map((file) => file.commentLines))
  const quantile = (part: number): number =>
    lengths[Math.min(lengths.length - 1, Math.floor(part * lengths.length))] ?? 0
  return {
    files: files.length,
    lines: sum(lengths),
    medianLines: quantile(0.5),
    p90Lines: quantile(0.9),
    maxLines: lengths.at(-1) ?? 0,
    longFunctions: functions.filter(({ lines }) => lines > MAX_FUNCTION_LINES).length,
    maxFunctionLines: Math.max(0, ...functions.map(({ lines }) => lines)),
    deadExports: exports.filter(({ users }) => users === 'nobody').length,
    testExports: exports.filter(({ users }) => users === 'tests').length,
    assertsPerThousand: (1000 * sum(files.map((file) => file.asserts))) / Math.max(1, codeLines),
    commentShare: share(commentLines, commentLines + codeLines),
    pronounShare: share(
      sum(files.map((file) => file.pronouns.length)),
      sum(files.map((file) => file.commentWords)),
    ),
    longLines: sum(files.map((file) => file.longLines.length)),
  }
}

/** Summaries by room, and of all under `all`. */
export function summaries(files: readonly FileMeasure[]): Record<string, Summary> {
  const rooms = Object.groupBy(files, ({ room }) => room)
  const named = Object.entries(rooms).map(([room, own]) => [room, summarize(own!)] as const)
  return { ...Object.fromEntries(named), all: summarize(files) }
}

const COLUMNS: readonly (readonly [string, (summary: Summary) => string])[] = [
  ['files', ({ files }) => `${files}`],
  ['lines', ({ lines }) => `${lines}`],
  ['median', ({ medianLines }) => `${medianLines}`],
  ['p90', ({ p90Lines }) => `${p90Lines}`],
  ['max', ({ maxLines }) => `${maxLines}`],
  [`functions >${MAX_FUNCTION_LINES}`, ({ longFunctions }) => `${longFunctions}`],
  ['longest', ({ maxFunctionLines }) => `${maxFunctionLines}`],
  ['dead exports', ({ deadExports }) => `${deadExports}`],
  ['only tests', ({ testExports }) => `${testExports}`],
  ['asserts/1000', ({ assertsPerThousand }) => assertsPerThousand.toFixed(1)],
  ['comments %', ({ commentShare }) => commentShare.toFixed(1)],
  ['pronouns %', ({ pronounShare }) => pronounShare.toFixed(2)],
  [`lines >${MAX_COLUMNS}`, ({ longLines }) => `${longLines}`],
]

/** Rows with columns of one width: the first to the left, all others to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
    )
    .join('\n')
}

function printSummaries(all: Record<string, Summary>): void {
  const head = ['room', ...COLUMNS.map(([name]) => name)]
  const rows = Object.entries(all).map(([room, summary]) => [
    room,
    ...COLUMNS.map(([, cell]) => cell(summary)),
  ])
  console.log(table([head, ...rows]))
}

/** Lists every place that counts against a room. */
function printRoom(files: readonly FileMeasure[]): void {
  const section = (title: string, lines: readonly string[]): void => {
    console.log(`\n${title}: ${lines.length}`)
    for (const line of lines) console.log(`  ${line}`)
  }
  const byPronouns = files.toSorted((a, b) => b.pronouns.length - a.pronouns.length)
  const head = ['file', 'lines', 'longest function', 'asserts', 'words', 'pronouns', '%']
  const rows = byPronouns.map((file) => [
    file.file,
    `${file.lines}`,
    `${Math.max(0, ...file.functions.map(({ lines }) => lines))}`,
    `${file.asserts}`,
    `${file.commentWords}`,
    `${file.pronouns.length}`,
    share(file.pronouns.length, file.commentWords).toFixed(1),
  ])
  console.log(`\n${table([head, ...rows])}`)
  const long = files.flatMap(({ functions }) => functions).filter(({ lines }) => lines > MAX_FUNCTION_LINES)
  section(
    `functions of more than ${MAX_FUNCTION_LINES} lines`,
    long.map(({ file, line, name, lines }) => `${file}:${line} ${name}, ${lines} lines`),
  )
  const exported = files.flatMap((file) => file.exports)
  for (const users of ['nobody', 'tests'] as const) {
    section(
      users === 'nobody'
        ? 'exports that nobody imports'
        : 'exports that only tests, tools and benchmarks import',
      exported.filter((item) => item.users === users).map(({ file, name }) => `${file} ${name}`),
    )
  }
  section(
    `lines of more than ${MAX_COLUMNS} columns`,
    files
      .flatMap(({ longLines }) => longLines)
      .map(({ file, line, text }) => `${file}:${line} (${text.length})`),
  )
  const lines = Map.groupBy(
    byPronouns.flatMap(({ pronouns }) => pronouns),
    ({ file, line }) => `${file}:${line}`,
  )
  section(
    'comment lines with pronouns',
    [...lines].map(([place, words]) => `${place} ${words.map(({ text }) => text).join(' ')}`),
  )
}

function main(): void {
  const { values } = parseArgs({ options: { json: { type: 'boolean' }, room: { type: 'string' } } })
  const all = measure()
  const files = values.room ? all.filter(({ room }) => room === values.room) : all
  if (files.length === 0)
    throw new Error(
      `no room ${values.room}: rooms are ${[...new Set(all.map(({ room }) => room))].join(', ')}`,
    )
  const found = summaries(files)
  if (values.json) {
    console.log(JSON.stringify(values.room ? { ...found, files } : found, null, 2))
    return
  }
  printSummaries(found)
  if (values.room) printRoom(files)
  else {
    const dead = files.flatMap((file) => file.exports).filter(({ users }) => users === 'nobody')
    if (dead.length > 0) console.log(`\n${dead.map(({ file, name }) => `dead: ${file} ${name}`).join('\n')}`)
  }
}

if (import.meta.main) main()
