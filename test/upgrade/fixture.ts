// A fixture: vaults that an earlier or the present version has written, stopped and packed, and what their nodes
// have answered. `node.tar.gz` is a vault of one node, `cluster.tar.gz` one of three, `node.backup` a backup of the first.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export type FixtureValue = string | number | boolean

/** Answered writes: every answer is given again by a later version that reads the format. */
export type Kept = {
  /** API keys by owner. */
  readonly owners: Readonly<Record<string, string>>
  readonly tokens: readonly {
    readonly owner: string
    readonly values: readonly FixtureValue[]
    readonly tokens: readonly string[]
  }[]
  readonly secrets: readonly {
    readonly owner: string
    readonly name: string
    /** Oldest first. */
    readonly values: readonly string[]
    /** The answer to GET /secrets/<name>/history. */
    readonly history: unknown
  }[]
  /** Writes under an Idempotency-Key. */
  readonly receipts: readonly {
    readonly owner: string
    readonly method: string
    readonly path: string
    readonly headers: Readonly<Record<string, string>>
    readonly body: string
    readonly status: number
    readonly answer: string
  }[]
  /** Of GET /status, when everything above was there. */
  readonly identity: string
  readonly digest: string
}

export type Expected = {
  readonly node: Kept
  readonly cluster: Kept
  /** What `coffer backup --json` has printed, without the file. */
  readonly backup: Readonly<Record<string, unknown>>
}

/** The first port of the cluster of a fixture: its members have their addresses in their data. */
export const CLUSTER_PORT = 31_700

export function fixtureFile(format: number, name: string): string {
  return join(import.meta.dirname, `format-${format}`, name)
}

export function expected(format: number): Expected {
  return JSON.parse(readFileSync(fixtureFile(format, 'expected.json'), 'utf8')) // written by make.ts
}

/** Unpacks a vault into a directory that exists. */
export function unpack(format: number, name: 'node' | 'cluster', dir: string): void {
  execFileSync('tar', ['-xpzf', fixtureFile(format, `${name}.tar.gz`), '-C', dir])
}
