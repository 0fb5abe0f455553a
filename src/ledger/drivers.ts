// The kinds of ledger that a configuration can name, and what each kind can: callers ask the table, and never
// compare kinds. A driver is loaded when its ledger is opened, so that reading a configuration loads neither
// lmdb nor gRPC.
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { LedgerKind } from '../wire.ts'
import { CheckedLedger } from './checked.ts'
import type { Ledger } from './ledger.ts'

/** Absolute paths of PEM files. */
export type TlsFiles = { readonly ca: string; readonly cert: string; readonly key: string }

/** The content of the files. */
export type LedgerTls = { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer }

/** The node's own etcd member. Its name is the node's, its certificates are those of `ledger.tls`. */
export type MemberSettings = {
  /** Where the member listens for clients; among the endpoints. */
  readonly client: string
  /** Where the member listens for the other members. */
  readonly peer: string
  /** Every member of the cluster, the own one too: the name of its node, and its `peer`. */
  readonly cluster: Readonly<Record<string, string>>
  /** Random, the same on all nodes: keeps members of different clusters apart. */
  readonly token: string
  /** Absolute path of an etcd binary; absent: the node finds one. */
  readonly etcd?: string
}

/** `ledger` in a node's configuration. A kind has only the settings in its `takes`. */
export type LedgerSettings = {
  readonly kind: LedgerKind
  /** Origins, `https://127.0.0.1:8201`: no path, no slash at the end. Empty where the ledger is a file. */
  readonly endpoints: readonly string[]
  readonly tls?: TlsFiles
  /** Present: the node runs an etcd member of its own. */
  readonly member?: MemberSettings
}

export type LedgerSetting = Exclude<keyof LedgerSettings, 'kind'>

type LedgerOpening = {
  readonly settings: LedgerSettings
  /** The content of `settings.tls`. */
  readonly tls: LedgerTls | undefined
  /** The node's data directory. */
  readonly data: string
  /** For `read`, `head` and `snapshot` only: another process may have the ledger open. */
  readonly readOnly?: boolean
  /**
   * Called with the directory of a ledger in a file, before the file is opened. Throws where the file is
   * damaged.
   */
  readonly check: (directory: string) => Promise<void>
}

type LedgerDriver = {
  /** The settings of the kind in a configuration. */
  readonly takes: readonly LedgerSetting[]
  /** Several nodes have the ledger in common. The only node of a ledger not shared is its leader. */
  readonly shared: boolean
  /** The ledger's file, for a node's data directory; undefined where the ledger is elsewhere. */
  readonly file: (data: string) => string | undefined
  readonly open: (opening: LedgerOpening) => Promise<Ledger>
}

export const DRIVERS: Readonly<Record<LedgerKind, LedgerDriver>> = {
  embedded: {
    takes: [],
    shared: false,
    file: embeddedFile,
    open: async ({ data, readOnly = false, check }) => {
      const directory = dirname(embeddedFile(data))
      if (!readOnly) mkdirSync(directory, { recursive: true, mode: 0o700 })
      await check(directory)
      const { LmdbLedger } = await import('./lmdb.ts')
      return new LmdbLedger(directory, { readOnly })
    },
  },
  etcd: {
    takes: ['endpoints', 'tls', 'member'],
    shared: true,
    file: () => undefined,
    open: async ({ settings: { endpoints, member }, tls }) => {
      const { EtcdLedger } = await import('./etcd.ts')
      // The node's own member first: a member on the same machine answers without another hop.
      const urls = new Set([...(member ? [member.client] : []), ...endpoints])
      return new EtcdLedger([...urls], tls)
    },
  },
}

/**
 * Opens the ledger of a node, without asking a ledger behind a network anything yet. Throws the errors of
 * `check`.
 */
export async function openLedger(opening: LedgerOpening): Promise<Ledger> {
  return new CheckedLedger(await DRIVERS[opening.settings.kind].open(opening))
}

function embeddedFile(data: string): string {
  return join(data, 'ledger', 'data.mdb')
}
