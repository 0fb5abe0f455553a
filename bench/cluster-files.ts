// The files of three nodes, as `coffer init DIR --nodes 3` writes them, with API keys and ports that are
// known here.
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { configText, LAST_PORT, portOf } from '../src/cli/config-text.ts'
import { randomHex, systemClock } from '../src/clock.ts'
import { Keyring } from '../src/crypto/keyring.ts'
import { replaceFile } from '../src/files.ts'
import { createAuthority, issueCertificate } from '../src/node/certificates.ts'
import { type Config, readConfig } from '../src/node/config.ts'
import { apiKey } from './vault.ts'

export const NODES = ['n1', 'n2', 'n3']

/** Below the system's range for outgoing connections: a restarted node finds its ports free. */
const PORTS = { first: 20_000, last: 32_000 }

/** Returns the configuration of each node. */
export async function writeClusterFiles(
  dir: string,
  owners: readonly string[],
  names: readonly string[] = NODES,
): Promise<Config[]> {
  const first = await freePorts()
  const nodes = names.map((node, i) => ({ node, port: portOf(first, i) }))
  const cluster = { nodes, token: `bench-${randomHex(systemClock, 16)}` }
  const keys = owners.map((owner) => [owner, apiKey(owner)] as const)
  const authority = await createAuthority(systemClock)
  const write = (name: string, text: string): void => {
    const path = join(dir, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    replaceFile(path, text)
  }
  write('keyring.json', Keyring.create(systemClock).serialize())
  write('tls/ca.crt', authority.cert)
  for (const { node, port } of nodes) {
    const { cert, key } = await issueCertificate(authority, { node }, systemClock)
    write(`tls/${node}.crt`, cert)
    write(`tls/${node}.key`, key)
    write(`${node}.yaml`, configText({ node, port, keys, fields: [], cluster }))
  }
  return names.map((node) => readConfig(join(dir, `${node}.yaml`)))
}

/** The port of a node without a member, beside the ports of the cluster's `i`-th node. */
const EXTRA_PORT = 5

type ExtraNode = {
  readonly node: string
  readonly owners: readonly string[]
  /** The nodes whose members the node asks, the first one first. */
  readonly members: readonly Config[]
}

/** A node without an etcd member of its own. Its keyring and certificate are those of the first member. */
export function writeExtraNode(dir: string, { node, owners, members }: ExtraNode): Config {
  const [{ ledger, listen }] = members
  const keys = owners.map((owner) => [owner, apiKey(owner)] as const)
  const text = configText({ node, port: listen.port + EXTRA_PORT, keys, fields: [] })
  const kind = text.indexOf('ledger:\n')
  const { tls } = ledger
  const endpoints = members.map((each) => each.ledger.member?.client)
  const lines = [
    'ledger:',
    '  kind: etcd',
    `  endpoints: [${endpoints.join(', ')}]`,
    `  tls: { ca: ${tls?.ca}, cert: ${tls?.cert}, key: ${tls?.key} }`,
  ]
  const file = join(dir, `${node}.yaml`)
  replaceFile(file, `${text.slice(0, kind)}${lines.join('\n')}\n`)
  return readConfig(file)
}

/** The first port of a free range for a cluster. */
async function freePorts(): Promise<number> {
  for (let first = PORTS.first + (process.pid % 100) * 40; first < PORTS.last; first += LAST_PORT + 8) {
    const all = Array.from({ length: LAST_PORT + 1 }, (_, i) => first + i)
    const free = await Promise.all(all.map(isFree))
    if (free.every(Boolean)) return first
  }
  throw new Error(`there are no ${LAST_PORT + 1} free ports from ${PORTS.first} to ${PORTS.last}`)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
