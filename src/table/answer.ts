// The answer of a vault to a request, read as bytes: most answers go from there into the file as they are.
import { OperatorError, Problem } from '../errors.ts'
import { KIND, type Scan } from '../json/matches.ts'
import { Paths } from '../json/paths.ts'
import { scan } from '../json/scan.ts'
import { Bytes } from './bytes.ts'
import type { Operation, Scalar } from './vault.ts'

const LISTED = 0
const PATHS: Readonly<Record<Operation, Paths>> = {
  tokenize: new Paths(['tokens[]', 'epoch']),
  retokenize: new Paths(['tokens[]', 'epoch']),
  detokenize: new Paths(['values[]', 'epoch']),
}

export class VaultAnswer {
  readonly bytes: Bytes
  /** How many values or tokens there are. */
  readonly count: number
  /** 0: none. */
  readonly epoch: number
  readonly #found: Scan
  /** The index of the first among the matches. */
  readonly #first: number

  /** Throws OperatorError for an answer that no vault gives. */
  constructor(body: Buffer, operation: Operation) {
    const found = scanned(body, PATHS[operation])
    const { leaf, start, end } = found
    this.#found = found
    this.bytes = new Bytes(body)
    let first = 0
    let count = 0
    let epoch = 0
    for (let i = 0; i < found.count; i++) {
      if (leaf[i] !== LISTED) epoch = Number(body.toString('latin1', start[i], end[i]))
      else if (count++ === 0) first = i
    }
    this.#first = first
    this.count = count
    this.epoch = epoch
  }

  isNull(i: number): boolean {
    return this.#found.kinds[this.#first + i] === KIND.null
  }

  /** Whether the bytes between the quotes are the text itself. */
  isPlain(i: number): boolean {
    return this.#found.kinds[this.#first + i] === KIND.string
  }

  /** Of the bytes of a value, with the quotes of a string. */
  startOf(i: number): number {
    return this.#found.start[this.#first + i]
  }

  endOf(i: number): number {
    return this.#found.end[this.#first + i]
  }

  /** Throws OperatorError for an object or an array. */
  valueOf(i: number): Exclude<Scalar, null> {
    const { bytes } = this.bytes
    const text = Buffer.from(
      bytes.buffer,
      bytes.byteOffset + this.startOf(i),
      this.endOf(i) - this.startOf(i),
    )
    const value: unknown = JSON.parse(text.toString('utf8'))
    if (value === null || typeof value === 'object') throw strange()
    return value as Exclude<Scalar, null> // other values of JSON are scalars
  }
}

/** Throws OperatorError. */
function scanned(body: Buffer, paths: Paths): Scan {
  try {
    return scan(body, paths)
  } catch (error) {
    throw error instanceof Problem ? strange() : error
  }
}

function strange(): OperatorError {
  return new OperatorError('the answer is not the answer of a vault', {
    hint: 'compare COFFER_URL with the address of a node: is there a proxy in between?',
  })
}
