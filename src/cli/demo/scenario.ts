// A scenario of `coffer demo`.
import type { Stage } from './stage.ts'

export type Scenario = {
  /** A line of the help. */
  readonly about: string
  readonly nodes: 1 | 3
  readonly owners: readonly string[]
  /** Paths of fields in records, replaced by tokens. */
  readonly fields?: readonly string[]
  /** Starts the nodes and tells the story. Throws OperatorError where a claim is not true. */
  readonly play: (stage: Stage) => Promise<void>
  /** Commands for the reader to go on with. */
  readonly next: string
}
