/** A law of docs/design.md, or a promise of an answer, that was broken. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

/** Throws Violation. */
export function check(holds: boolean, law: string): asserts holds {
  if (!holds) throw new Violation(law)
}
