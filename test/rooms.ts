// The table under "Rooms" in docs/architecture.md, and the imports of a file.
import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

export type Rooms = {
  /** Files in the root of src/, without `.ts`. */
  readonly ground: readonly string[]
  /** The rooms that each room may import. */
  readonly mayImport: ReadonlyMap<string, readonly string[]>
}

/** Ground files come first in the table, without a slash. `all` in the last column means every room. */
export function readRooms(): Rooms {
  const section = /^## Rooms$([\s\S]*?)^## /m.exec(readFileSync('docs/architecture.md', 'utf8'))?.[1] ?? ''
  const ground: string[] = []
  const mayImport = new Map<string, readonly string[]>()
  for (const line of section.split('\n').filter((each) => each.startsWith('| `'))) {
    const [names, , others] = line.split('|').slice(1)
    const named = namesIn(names)
    const [rooms, files] = [
      named.filter((name) => name.endsWith('/')),
      named.filter((name) => !name.endsWith('/')),
    ]
    ground.push(...files)
    for (const room of rooms) mayImport.set(room.slice(0, -1), namesIn(others))
  }
  for (const [room, others] of mayImport)
    if (others.includes('all')) mayImport.set(room, [...mayImport.keys()])
  return { ground, mayImport }
}

/** The names in code spans of a table's cell. */
function namesIn(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].flatMap(([, names]) => names.split(' '))
}

/** The room of a file `src/ROOM/…`, or the name of a ground file. */
export const roomOf = (file: string): string => file.split('/')[1].replace(/\.ts$/, '')

/** The files that a file imports, but for packages. */
export function importsOf(file: string): string[] {
  const found = [...readFileSync(file, 'utf8').matchAll(/(?:from|import\() ?'(\.[^']+)'/g)]
  return found.map(([, path]) => normalize(join(dirname(file), path)))
}
