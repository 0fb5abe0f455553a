// What of a running node a reload changes, in a simulated process, by the product's own code. The files are objects that
// an operator (operator.ts) puts new ones for.

import type { Clock } from '../../src/clock.ts'
import type { Keyring } from '../../src/crypto/keyring.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { SILENT } from '../../src/log.ts'
import type { OwnerConfig } from '../../src/node/owners.ts'
import { reload } from '../../src/server/reload.ts'
import { type RunningNode, runningNode } from '../../src/server/running-node.ts'

/** The configuration's owners and the keyring, as a node reads both at its start and on SIGHUP. */
export type Files = { owners: readonly OwnerConfig[]; keyring: Keyring }

type SimNodeOptions = {
  readonly name: string
  readonly files: Files
  readonly clock: Clock
  readonly ledger: Ledger
  readonly fatal: (error: Error) => void
}

/** A node with its files read; the other parts of a running node are those of a process. */
export function simNode({ name, files, clock, ledger, fatal }: SimNodeOptions): RunningNode {
  const { owners, keyring } = files
  const parts = {
    config: { node: name, fields: [], owners },
    events: { reopen() {} },
    log: SILENT,
    stop: new AbortController(),
    fail: fatal,
    ...{ owners, keyring, clock, ledger },
  }
  // A reload, and what follows in the background, use no other part.
  return runningNode(parts as unknown as Parameters<typeof runningNode>[0])
}

/** SIGHUP. */
export function reloadNode(node: RunningNode, files: Files): void {
  reload(node, {
    owners: () => [...files.owners],
    keyring: () => files.keyring,
    tls: () => undefined,
    replaceTls: () => undefined,
  })
}
