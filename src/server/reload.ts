// A reload: owners and keyring are read again. Each is in force at once, whatever the other, the ledger or
// the start of the node wait for; the ledger learns of both in the background.
import { KeyringError } from '../crypto/keyring.ts'
import { FatalError } from '../errors.ts'
import { readConfig } from '../node/config.ts'
import { announceAgain } from './announce.ts'
import { keyringMismatch, readKeyring } from './open.ts'
import { putOwners, type RunningNode } from './running-node.ts'
import { warnOfEndedKeys } from './warnings.ts'

/**
 * Reads owners and keyring again. Of a faulty file the content read before stays in force, and the fault is
 * logged; the other file is not held back.
 */
export function reload(node: RunningNode): void {
  const { config, log } = node
  reread(node, 'the owners stay', () => {
    putOwners(node, readConfig(config.file).owners)
    warnOfEndedKeys(node)
    log.info({ owners: node.owners.length, hash: node.ownersHash }, 'owners re-read')
  })
  reread(node, 'the keyring stays', () => {
    const keyring = readKeyring(config)
    const genesis = node.services?.replica.state.genesis // undefined: the node does not know its ledger yet
    const mismatch = genesis && keyringMismatch(keyring, genesis)
    if (mismatch !== undefined) throw new KeyringError(mismatch)
    node.keyring = keyring
    log.info({ active: keyring.active, root_keys: keyring.ids }, 'keyring re-read')
  })
  announceAgain(node)
}

function reread({ log }: RunningNode, what: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    if (error instanceof FatalError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    log.error({ error: reason }, `${what} as read before: correct the fault and send SIGHUP again`)
  }
}
