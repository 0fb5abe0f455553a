// A reload: the configuration's owners and the keyring are read again and are in force at once; then the
// ledger learns of both.
import { type Keyring, KeyringError } from '../crypto/keyring.ts'
import { type Config, readConfig } from '../node/config.ts'
import type { Genesis } from '../state/entries.ts'
import { announce } from './announce.ts'
import { keyringMismatch, readKeyring } from './open.ts'
import type { RunningNode } from './running-node.ts'
import { rewrapAll } from './services.ts'

/** Throws ConfigError, PrivateFileError, KeyringError; then nothing has changed. */
export async function reload(node: RunningNode): Promise<void> {
  const { owners, keyring } = reread(node.config, node.services?.replica.state.genesis)
  node.apiKeys.replace(owners)
  node.owners = owners
  node.keyring = keyring
  const { services } = node
  if (!services || node.waitingFor !== '') return // becomeReady announces both when the ledger can be reached
  await announce(node, services)
  node.log.info({ owners: owners.length }, 'owners and keyring re-read')
  if (keyring.rewrap) await rewrapAll(services, node.log)
}

/** `genesis` is undefined where the node does not know its ledger yet. */
function reread(
  config: Config,
  genesis: Genesis | undefined,
): { readonly owners: Config['owners']; readonly keyring: Keyring } {
  const { owners } = readConfig(config.file)
  const keyring = readKeyring(config)
  const mismatch = genesis && keyringMismatch(keyring, genesis)
  if (mismatch !== undefined) throw new KeyringError(mismatch)
  return { owners, keyring }
}
