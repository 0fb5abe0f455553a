// A reload: owners, keyring and the certificate for callers are read again. Each is in force at once,
// whatever the others, the ledger or the start of the node wait for; the ledger learns of owners and keyring
// in the background. The event log is opened anew.
import { X509Certificate } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { type Keyring, KeyringError } from '../crypto/keyring.ts'
import { FatalError } from '../errors.ts'
import { replaceCertificate, type TlsFiles } from '../http/listener.ts'
import { type Config, readConfig } from '../node/config.ts'
import { announceAgain } from './announce.ts'
import { keyringMismatch, readKeyring, readTls } from './open.ts'
import { putOwners, type RunningNode, reasonOf } from './running-node.ts'
import { endingCertificates, warnOfEndedKeys } from './warnings.ts'

/** What a reload reads. Each function may throw: then the content read before stays in force. */
type Sources = {
  readonly owners: () => Config['owners']
  readonly keyring: () => Keyring
  /** Undefined: callers come without TLS. */
  readonly tls: () => TlsFiles | undefined
  readonly replaceTls: (tls: TlsFiles) => void
}

/** The files of the node. */
export function sourcesOf({ config }: RunningNode, app: FastifyInstance): Sources {
  return {
    owners: () => readConfig(config.file).owners,
    keyring: () => readKeyring(config),
    tls: () => readTls(config),
    replaceTls: (tls) => replaceCertificate(app, tls),
  }
}

/**
 * Reads owners, keyring and certificate again. Of a faulty file the content read before stays in force, and
 * the fault is logged; the other files are not held back.
 */
export function reload(node: RunningNode, sources: Sources): void {
  const { config, clock, log, events } = node
  events.reopen()
  reread(node, 'the owners stay', () => {
    putOwners(node, sources.owners())
    warnOfEndedKeys(node)
    log.info({ owners: node.owners.length, hash: node.ownersHash }, 'owners re-read')
  })
  reread(node, 'the keyring stays', () => {
    const keyring = sources.keyring()
    const genesis = node.services?.replica.state.genesis // undefined: the node does not know its ledger yet
    const mismatch = genesis && keyringMismatch(keyring, genesis)
    if (mismatch !== undefined) throw new KeyringError(mismatch)
    node.keyring = keyring
    log.info({ active: keyring.active, root_keys: keyring.ids }, 'keyring re-read')
  })
  reread(node, 'the certificate stays', () => {
    const tls = sources.tls()
    if (tls === undefined) return
    sources.replaceTls(tls)
    log.info({ valid_to: new X509Certificate(tls.cert).validTo }, 'certificate re-read')
    for (const { file, warning } of endingCertificates(config, clock.now())) log.warn({ file }, warning)
  })
  announceAgain(node)
}

function reread({ log }: RunningNode, what: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    if (error instanceof FatalError) throw error
    log.error({ error: reasonOf(error) }, `${what} as read before: correct the fault and send SIGHUP again`)
  }
}
