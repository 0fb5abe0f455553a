// The configuration written by coffer init, with a comment at every setting a person may want to change.
import { stringify } from 'yaml'
import { hashKey } from '../http/auth.ts'

type ConfigText = {
  readonly node: string
  readonly port: number
  readonly keys: readonly (readonly [owner: string, key: string])[]
  readonly fields: readonly string[]
  /** The cluster of the node; absent for a single node. */
  readonly cluster?: Cluster
}

type Cluster = {
  readonly nodes: readonly { readonly node: string; readonly port: number }[]
  /** The random token of the etcd cluster. */
  readonly token: string
}

/** Node i (0, 1, 2) of a cluster listens on PORT+10i, its etcd member on the next two ports. */
export function portOf(first: number, i: number): number {
  return first + 10 * i
}

/** The ports of a node's etcd member, after the node's port: for clients, and for other members. */
const CLIENT = 1
const PEER = 2

/** The last port of a cluster, relative to its first port. */
export const LAST_PORT = portOf(0, 2) + PEER

/** All nine ports of a cluster. */
export function clusterPorts(first: number): number[] {
  return [0, 1, 2].flatMap((i) => [0, CLIENT, PEER].map((port) => portOf(first, i) + port))
}

/** The text as a YAML string, quoted where YAML would read another type. */
function scalar(text: string): string {
  return stringify(text, { lineWidth: 0 }).trimEnd()
}

export function configText({ node, port, keys, fields, cluster }: ConfigText): string {
  const owners = keys.flatMap(([owner, key]) => [
    `  - id: ${scalar(owner)}`,
    '    keys:',
    '      - id: k1',
    `        sha256: ${scalar(hashKey(key))}`,
  ])
  const paths = fields.map((field) => `    - ${scalar(field)}`)
  const what = cluster
    ? 'In here: its part of the ledger (the truth), the replica (disposable) and the event log.'
    : 'The ledger is in here (the truth: back it up), the replica (disposable) and the event log.'
  const all = cluster ? '*' : node
  return `# One node of Coffer: \`coffer start --config ${node}.yaml\` runs it.
# Paths are relative to this file. It is read once, at the start; the owners, and the keyring, also
# when the node gets SIGHUP.

node: ${node}

# Beyond this machine only with tls: { cert: FILE, key: FILE }.
listen: 127.0.0.1:${port}

# ${what}
data: ./${node}

# The root keys. Keep a copy in a safe place: without it nothing that is stored can be read again.
keyring: ./keyring.json

# Who may ask. A key is shown once, when it is made; here is its SHA-256.
# \`coffer keys add --config ${all}.yaml --owner NAME\` adds a key, and the owner where it is new.
owners:
${owners.join('\n')}

# The places in records that become tokens: dotted paths, [] is every element of a list.
tokenize:
  fields:${paths.length === 0 ? ' []' : `\n${paths.join('\n')}`}

# What one request may take; these are the defaults.
# limits: { body_bytes: 16777216, values: 100000, value_bytes: 32768, answer_bytes: 67108864 }

${cluster ? clusterText(node, port, cluster) : embeddedText()}`
}

function embeddedText(): string {
  return `ledger:
  kind: embedded
`
}

function clusterText(node: string, port: number, { nodes, token }: Cluster): string {
  const url = (of: number): string => `https://127.0.0.1:${of}`
  const members = nodes.map((other) => `${other.node}: ${url(other.port + PEER)}`)
  return `# The ledger is an etcd cluster, one member per node. The certificates serve etcd alone, and end
# after two years: \`coffer init DIR --renew\` makes new ones.
ledger:
  kind: etcd
  endpoints: [${nodes.map((other) => url(other.port + CLIENT)).join(', ')}]
  tls: { ca: ./tls/ca.crt, cert: ./tls/${node}.crt, key: ./tls/${node}.key }
  member:
    client: ${url(port + CLIENT)}
    peer: ${url(port + PEER)}
    cluster: { ${members.join(', ')} }
    token: ${token}
`
}
