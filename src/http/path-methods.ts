// The registered paths and their methods: for requests without a route.

/** A pattern of Fastify as a regular expression over routed paths. */
function patternOf(path: string): RegExp {
  const source = path.replaceAll('.', '\\.').replace(/\*$/, '.*').replace(/:\w+/g, '[^/]+')
  return new RegExp(`^${source}$`)
}

/** Paths, with their methods and whether they need a key. */
export class PathMethods {
  readonly #paths = new Map<
    string,
    { readonly pattern: RegExp; readonly methods: Set<string>; open: boolean }
  >()

  add(method: string, path: string, open: boolean): void {
    const known = this.#paths.get(path) ?? {
      pattern: patternOf(path),
      methods: new Set<string>(),
      open: false,
    }
    known.methods.add(method)
    if (method === 'GET') known.methods.add('HEAD')
    known.open ||= open
    this.#paths.set(path, known)
  }

  /** The methods of a path, sorted, as `Allow` lists them; empty where there is no such path. */
  methodsOf(path: string): string[] {
    const methods = this.#matching(path).flatMap((known) => [...known.methods])
    return [...new Set(methods)].sort()
  }

  isOpen(path: string): boolean {
    return this.#matching(path).some(({ open }) => open)
  }

  #matching(path: string): { readonly methods: Set<string>; readonly open: boolean }[] {
    return [...this.#paths.values()].filter(({ pattern }) => pattern.test(path))
  }
}
