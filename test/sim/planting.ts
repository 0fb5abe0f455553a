// Plants texts of a bug in modules of the product as Node loads the modules. No file is changed. A text that is not there
// exactly once is an error: whoever changes the code changes the exhibit.

import { registerHooks } from 'node:module'

/** `file` below src/. */
export type Change = { readonly file: string; readonly from: string; readonly to: string }

/** Plants the changes in all modules loaded from now on. Returns a function that tells how many texts were replaced. */
export function plant(changes: readonly Change[]): () => number {
  const done = new Set<Change>()
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context)
      const here = changes.filter(({ file }) => url.endsWith(`/src/${file}`))
      if (here.length === 0) return loaded
      let source = Buffer.from(loaded.source as Uint8Array).toString('utf8')
      for (const change of here) {
        source = changed(source, change)
        done.add(change)
      }
      return { ...loaded, source }
    },
  })
  return () => done.size
}

/** Throws where the source has not the text exactly once. */
export function changed(source: string, { file, from, to }: Change): string {
  if (source.split(from).length !== 2) throw new Error(`${file} has not once: ${from}`)
  return source.replace(from, () => to)
}
