// A line of a .env file as a POSIX shell reads the line, when the file is sourced.

/** Characters without a meaning to a shell; a tilde or a brace may be expanded. */
const PLAIN = /^[A-Za-z0-9_@%+:,./-]$/
const ASSIGNMENT = /^[ \t]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*=/
const END = /^(?:[ \t]+(?:#.*)?)?(?:\n|$)/
/** Within "…" a shell acts on dollar signs, backquotes and backslashes. */
const ACTIVE = /[$`\\]/

/** The value assigned by a shell; undefined: no assignment, or a line for a shell to expand or execute. */
export function shReads(line: string): string | undefined {
  const head = ASSIGNMENT.exec(line)
  if (!head) return undefined
  let value = ''
  let at = head[0].length
  for (;;) {
    const char = line.charAt(at)
    if (char === "'" || char === '"') {
      const close = line.indexOf(char, at + 1)
      const content = line.slice(at + 1, close)
      if (close < 0 || (char === '"' && ACTIVE.test(content))) return undefined
      value += content
      at = close + 1
    } else if (PLAIN.test(char) || char === '=' || (char === '#' && at > head[0].length)) {
      value += char
      at++
    } else if (char === '\\' && /^[^\n]/.test(line.slice(at + 1))) {
      value += line.charAt(at + 1)
      at += 2
    } else return END.test(line.slice(at)) && !value.includes('\0') ? value : undefined
  }
}

/** Whether a shell has variables of the name. */
export function isShName(key: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(key)
}

/** The value as a word of a shell. */
export function quotedForSh(value: string): string {
  return [...value].every((char) => PLAIN.test(char)) ? value : `'${value.replaceAll("'", "'\\''")}'`
}
