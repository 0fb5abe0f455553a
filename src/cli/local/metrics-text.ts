// The numbers of a node for the commands, out of its /metrics (Prometheus text).

/** null: not reported. An embedded ledger has no leader; a starting node does not know its quorum yet. */
export type NodeNumbers = {
  readonly quorum: boolean | null
  readonly leader: string | null
  readonly revision: number | null
  /** How many revisions the ledger is ahead of the replica. */
  readonly lag: number | null
}

export const NO_NUMBERS: NodeNumbers = { quorum: null, leader: null, revision: null, lag: null }

export function nodeNumbers(text: string): NodeNumbers {
  const samples = parseSamples(text)
  const number = (name: string): number | null =>
    samples.find((sample) => sample.name === name)?.value ?? null
  const [quorum, revision] = [number('coffer_quorum'), number('coffer_replica_revision')]
  const head = number('coffer_ledger_revision')
  const leader = samples.find(({ name, value }) => name === 'coffer_ledger_leader' && value === 1)
  return {
    quorum: quorum === null ? null : quorum === 1,
    leader: leader?.labels.get('node') ?? null,
    revision,
    lag: revision === null || head === null ? null : Math.max(0, head - revision),
  }
}

/** The hash of the owners in force; undefined where another program has written the text. */
export function ownersInForce(text: string): string | undefined {
  return parseSamples(text)
    .find(({ name }) => name === 'coffer_owners')
    ?.labels.get('hash')
}

/** What the replica holds: another text whenever the node has applied revisions, or parts of a snapshot. */
export function held(text: string): string {
  const ofReplica = parseSamples(text).filter(({ name }) => name.startsWith('coffer_replica_'))
  return ofReplica.map(({ name, value }) => `${name} ${value}`).join('\n')
}

/**
 * A node's root keys. `wrapped`: by root key, the number of keys of the ledger under the root key; undefined
 * while the node is not ready, and so does not know its ledger. `genesis`: the revision of the genesis.
 */
export type RootKeys = {
  readonly active: string
  readonly ids: readonly string[]
  readonly wrapped: ReadonlyMap<string, number> | undefined
  readonly genesis: number
}

export function rootKeys(text: string): RootKeys {
  const samples = parseSamples(text)
  const ready = samples.some(({ name, value }) => name === 'coffer_ready' && value === 1)
  const keys = samples.filter(({ name }) => name === 'coffer_root_keys').map(({ labels }) => labels)
  const wrapped = samples.filter(({ name }) => name === 'coffer_wrapped_keys')
  return {
    active: keys.find((labels) => labels.get('active') === 'true')?.get('root_key') ?? '',
    ids: keys.map((labels) => labels.get('root_key') ?? ''),
    wrapped: ready
      ? new Map(wrapped.map(({ labels, value }) => [labels.get('root_key') ?? '', value]))
      : undefined,
    genesis: samples.find(({ name }) => name === 'coffer_genesis_revision')?.value ?? 0,
  }
}

type Sample = { readonly name: string; readonly labels: ReadonlyMap<string, string>; readonly value: number }

/** Numbers only: a value `Nan` is not known yet. */
const SAMPLE = /^(coffer_\w+)(?:\{(.*)\})? (-?\d\S*)$/gm
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

/** Coffer's own samples. Label values keep their escapes: names of nodes and root keys have none. */
function parseSamples(text: string): Sample[] {
  return [...text.matchAll(SAMPLE)].map(([, name, labels = '', value]) => ({
    name,
    labels: new Map([...labels.matchAll(LABEL)].map(([, label, content]) => [label, content])),
    value: Number(value),
  }))
}
