// Relays between three nodes, their members and the clients. A member listens on its own ports and tells the others the
// ports of relays: a small script adds the flags to the program of etcd.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findEtcd } from '../../src/node/etcd-binary.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { Relay } from '../cluster/relay.ts'

export type Wires = {
  /** A file with further flags of etcd, for the next start of the members. */
  readonly flags: string
  /** Where each member listens itself. */
  readonly members: readonly string[]
  /** From each node to the members, in the order of the members. */
  readonly ledger: readonly (readonly Relay[])[]
  /** From the other members to each member. */
  readonly peers: readonly Relay[]
  /** From the clients to each node. */
  readonly clients: readonly Relay[]
}

const each = <T>(list: readonly T[], work: (one: T) => Promise<Relay>): Promise<Relay[]> =>
  Promise.all(list.map(work))

/** Changes the configurations of nodes that were never started. */
export async function wire({ dir, nodes }: Cluster): Promise<Wires> {
  const texts = nodes.map(({ config }) => readFileSync(config, 'utf8'))
  const listed = (name: string): string[] =>
    texts.map((text) => new RegExp(`^ {4}${name}: (\\S+)$`, 'm').exec(text)?.[1] ?? '')
  const [members, others] = [listed('client'), listed('peer')]
  const extra = join(dir, 'etcd-flags')
  writeFileSync(extra, '')
  const relays: Wires = {
    flags: extra,
    members,
    ledger: await Promise.all(nodes.map(() => each(members, Relay.before))),
    peers: await each(others, Relay.before),
    clients: await each(nodes, ({ url }) => Relay.before(url)),
  }
  const etcd = findEtcd().path
  const secure = ({ url }: Relay): string => url.replace('http:', 'https:')
  for (const [i, { config, name }] of nodes.entries()) {
    const script = join(dir, `etcd-${name}`)
    const flags = `--listen-client-urls=${members[i]} --listen-peer-urls=${others[i]}`
    writeFileSync(script, `#!/bin/sh\nexec ${etcd} "$@" ${flags} $(cat ${extra})\n`, { mode: 0o755 })
    let text = texts[i].replace(/^ {4}token:/m, `    etcd: ${script}\n$&`)
    for (const [j, url] of members.entries()) text = text.replaceAll(url, secure(relays.ledger[i][j]))
    for (const [j, url] of others.entries()) text = text.replaceAll(url, secure(relays.peers[j]))
    writeFileSync(config, text, { mode: 0o600 })
  }
  return relays
}
