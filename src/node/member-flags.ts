// How etcd is called for a node's member: the flags and the environment.
import { isIP } from 'node:net'
import { availableParallelism, totalmem } from 'node:os'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import type { TlsFiles } from '../ledger/drivers.ts'
import type { Config } from './config.ts'
import { memberLog } from './member-directory.ts'

const GIB = 1024 ** 3

type Flags = Readonly<Record<string, string | number>>

/** `version` is the version of the etcd binary; `state` says whether the cluster exists already. */
export function memberFlags(config: Config, version: string, state: 'new' | 'existing'): string[] {
  const { member, tls } = config.ledger
  assert(member, 'the configuration has a member')
  const flags: Flags = {
    name: config.node,
    'data-dir': join(config.data, 'etcd'),
    'listen-client-urls': listenUrl(member.client),
    'advertise-client-urls': member.client,
    'listen-peer-urls': listenUrl(member.peer),
    'initial-advertise-peer-urls': member.peer,
    'initial-cluster': Object.entries(member.cluster)
      .map(([name, peer]) => `${name}=${peer}`)
      .join(','),
    'initial-cluster-token': member.token,
    'initial-cluster-state': state,
    ...(tls && { ...tlsFlags(tls, ''), ...tlsFlags(tls, 'peer-') }),
    // Writes are up to 1 MiB and stay in memory until the next snapshot: the default of 10,000 would be
    // gigabytes.
    'snapshot-count': 2000,
    'quota-backend-bytes': 8 * GIB,
    'max-txn-ops': 4096,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '1h',
    'log-level': 'warn',
    'log-outputs': memberLog(config),
    'enable-log-rotation': 'true',
    'log-rotation-config-json': '{"maxsize":16,"maxbackups":2}',
    ...releaseFlags(version),
  }
  return Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
}

function tlsFlags({ ca, cert, key }: TlsFiles, prefix: '' | 'peer-'): Flags {
  return {
    [`${prefix}cert-file`]: cert,
    [`${prefix}key-file`]: key,
    [`${prefix}trusted-ca-file`]: ca,
    [`${prefix}client-cert-auth`]: 'true',
  }
}

/** etcd 3.5 has these settings as experimental flags, under other names. */
function releaseFlags(version: string): Flags {
  if (version.startsWith('3.5.')) {
    return {
      'experimental-snapshot-catchup-entries': 1000,
      'experimental-initial-corrupt-check': 'true',
      'experimental-compact-hash-check-enabled': 'true',
    }
  }
  return {
    'snapshot-catchup-entries': 1000,
    'feature-gates': 'InitialCorruptCheck=true,CompactHashCheck=true',
  }
}

/** etcd listens on addresses and `localhost`; for another name the member listens on all addresses. */
function listenUrl(origin: string): string {
  const url = new URL(origin)
  const name = isIP(url.hostname.replace(/^\[|\]$/g, '')) === 0 && url.hostname !== 'localhost'
  if (name) url.hostname = '0.0.0.0'
  return url.origin
}

/**
 * The whole environment of the member; an `ETCD_…` variable of the node would be a second configuration. The
 * member takes half of the cores: the node needs the others, and threads that wake each other up for nothing
 * cost both. Go collects garbage when the heap is three times the live data instead of twice, for less work
 * with each write, and earlier where the heap would pass half of the memory.
 */
export function memberEnvironment(): NodeJS.ProcessEnv {
  const memory = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY)
  return {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    GOMAXPROCS: String(Math.max(1, Math.floor(availableParallelism() / 2))),
    GOGC: '200',
    GOMEMLIMIT: String(Math.floor(memory / 2)),
  }
}
