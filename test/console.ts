// Console blocks of documents: commands and outputs, and names for what differs from run to run.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The contents of fenced blocks of one language. */
export function blocks(file: string, language: string): string[] {
  return [
    ...readFileSync(join(import.meta.dirname, '..', file), 'utf8').matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm),
  ]
    .filter(([, name]) => name === language)
    .map(([, , text]) => text)
}

export type Example = { readonly command: string; readonly output: string }

/** Commands begin with `$ ` and go on as long as a quote is open. */
export function examples(block: string): Example[] {
  const found: { command: string; output: string }[] = []
  for (const line of block.split('\n')) {
    const last = found.at(-1)
    if (last && (last.command.match(/'/g)?.length ?? 0) % 2 === 1) last.command += `\n${line}`
    else if (line.startsWith('$ ')) found.push({ command: line.slice(2), output: '' })
    else if (last) last.output += `${line}\n`
  }
  return found
}

const INSTANT = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/

/**
 * What differs from run to run, by what a document calls it: `tok_1_ab…` is one and the same token all over a document,
 * and an instant to the millisecond one and the same instant; their order is that of those that are meant.
 */
export class Names {
  readonly #tokens = new Map<string, string>()
  readonly #instants = new Map<string, string>()

  fill(text: string): string {
    return text
      .replace(/tok_\d+_\w*…/g, (name) => this.#tokens.get(name) ?? assert.fail(`${name} is not known`))
      .replace(new RegExp(INSTANT, 'g'), (name) => this.#instants.get(name) ?? name)
  }

  /** Compares; `…` stands for anything. Binds the names that are new. */
  match(expected: string, actual: string, what: string): void {
    const names: string[] = []
    const pattern = expected
      .split(new RegExp(`(tok_\\d+_\\w+…|…|${INSTANT.source})`))
      .map((part, i) => {
        if (i % 2 === 0) return RegExp.escape(part)
        if (part === '…') return '.*?'
        names.push(part)
        const token = /^tok_\d+_/.exec(part)
        return `(${token ? `${token[0]}[0-9a-hjkmnp-tv-z]{32}` : INSTANT.source})`
      })
      .join('')
    const found = new RegExp(`^${pattern}$`, 's').exec(actual)
    assert.ok(found, `${what}\n  documented ${expected}\n  answered   ${actual}`)
    for (const [i, name] of names.entries()) {
      const meant: string = found[i + 1]
      const all = INSTANT.test(name) ? this.#instants : this.#tokens
      const known = all.get(name)
      if (known !== undefined)
        assert.equal(meant, known, `${name} is one and the same in all of the document`)
      else if (all === this.#tokens) assert.ok(![...all.values()].includes(meant), `${name} has two names`)
      all.set(name, meant)
    }
    const meant = [...this.#instants].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, instant]) => instant)
    assert.deepEqual(meant, meant.toSorted(), `${what}: the order of the instants`)
  }
}
