// coffer keyring: changes the root key while the nodes run. Each step is safe to repeat, and is refused until
// all nodes have completed the step before.
import type { Command } from 'commander'
import { systemClock } from '../clock.ts'
import { newRootKey } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import { sleep } from '../waiting.ts'
import { olderKeyringFile } from './local/keyring-file.ts'
import {
  type KeyringNode,
  openKeyringNode,
  type RootKeyCondition,
  reloadUntil,
  runningKeyringNode,
  wrappedKeys,
} from './local/keyring-node.ts'
import {
  type Change,
  change,
  changeLocked,
  type KeyringFile,
  locked,
  readKeyrings,
  reread,
} from './local/keyrings.ts'
import { counted, note, print, printJson, table } from './terminal/terminal.ts'

type Options = { readonly config: readonly string[]; readonly json?: boolean }

/** How long a rewrap may make no progress. */
const STALLED_MS = 30_000
/** After so long without progress the rewrap is asked for again: another command may have ended the first. */
const ASK_AGAIN_MS = 3_000
const POLL_MS = 50

export function registerKeyring(program: Command): void {
  const keyring = program
    .command('keyring')
    .description('root keys: add, activate, rewrap, remove, list')
    .addHelpText(
      'after',
      `
To change the root key, in this order, naming the configuration files of all nodes every time:

  $ coffer keyring add --config ./vault/n1.yaml            a new root key in every keyring; prints its id
  $ coffer keyring activate rk-… --config ./vault/n1.yaml  new keys are wrapped by it
  $ coffer keyring rewrap --config ./vault/n1.yaml         existing keys are wrapped by it, too
  $ coffer keyring remove rk-… --config ./vault/n1.yaml    the old root key is removed

Tokens do not change. Nodes that run on this machine re-read their keyring (SIGHUP), and the command
waits until they have; a step fails while one of them has not. Stopped nodes read the keyring when
they start. Every change keeps the keyring before it as keyring.json.old. Backups made with an old
root key still need that key: keep a copy of the old keyring with them.`,
    )
  const step = (name: string, about: string, result: string): Command =>
    keyring
      .command(name)
      .description(about)
      .requiredOption('--config <file...>', 'the configuration files of all nodes')
      .option('--json', `print ${result}`)
  step('add', 'add a new root key to every keyring; it is not active yet', '{"added":ID}')
    .addHelpText('after', '\nExample:\n  $ coffer keyring add --config ./vault/n1.yaml')
    .action(add)
  step('activate', 'wrap new keys by this root key from now on', '{"active":ID}')
    .argument('<id>', 'a root key that every keyring has')
    .addHelpText('after', '\nExample:\n  $ coffer keyring activate rk-0123456789ab --config ./vault/n1.yaml')
    .action(activate)
  step('rewrap', 'wrap all existing keys by the active root key', '{"active":ID,"rewrapped":N}')
    .addHelpText(
      'after',
      `
Writes "rewrap": true into the keyring, has the node re-read it, waits until no key of the ledger
is wrapped by another root key, and removes "rewrap" again. A stopped node is started for that time,
reachable only from this machine. An interrupted rewrap does no harm: repeat it.

Example:
  $ coffer keyring rewrap --config ./vault/n1.yaml`,
    )
    .action(rewrap)
  step('remove', 'remove a root key from every keyring, for good', '{"removed":ID}')
    .argument('<id>', 'a root key that is not active and no longer wraps any key')
    .addHelpText('after', '\nExample:\n  $ coffer keyring remove rk-0123456789ab --config ./vault/n1.yaml')
    .action(remove)
  step(
    'list',
    'list the root keys, and how many keys each of them wraps',
    '{"root_keys":[{"id","active",…}]}',
  )
    .addHelpText('after', '\nExample:\n  $ coffer keyring list --config ./vault/n1.yaml')
    .action(list)
}

async function add({ config, json }: Options): Promise<void> {
  const { files, result: ids } = await change(readKeyrings(config), (now) => {
    const known = new Map(now.flatMap(({ keyring }) => keyring.rootKeys).map((key) => [key.id, key]))
    const lacking = [...known.values()].filter(({ id }) =>
      now.some(({ keyring }) => !keyring.ids.includes(id)),
    )
    // An interrupted add is completed, instead of adding a second key.
    const added = lacking.length > 0 ? lacking : [newRootKey(systemClock)]
    if (lacking.length > 0)
      note(`some keyrings lack ${counted(lacking.length, 'root key')} that others have: added there now`)
    return {
      edit: (keyring) =>
        added.filter(({ id }) => !keyring.ids.includes(id)).reduce((all, key) => all.add(key), keyring),
      result: added.map(({ id }) => id),
    }
  })
  await reloadRunning(files, {
    holds: (now) => ids.every((id) => now.ids.includes(id)),
    about: `read root key ${ids.join(', ')}`,
  })
  if (json) printJson({ added: ids.length === 1 ? ids[0] : ids })
  else print(ids.join('\n'))
  note(`every keyring has the new root key. Next: coffer keyring activate ${ids[0]} --config …`)
}

async function activate(id: string, { config, json }: Options): Promise<void> {
  const files = readKeyrings(config)
  refuseWithout(files, id)
  await reloadRunning(files, { holds: (now) => now.ids.includes(id), about: `read root key ${id}` })
  await change(files, (now) => {
    refuseWithout(now, id)
    return { edit: (keyring) => keyring.activate(id), result: undefined }
  })
  await reloadRunning(files, hasActive(id))
  if (json) printJson({ active: id })
  else print(`root key ${id} is active`)
  note('Next: coffer keyring rewrap --config …')
}

/** Throws OperatorError where a keyring lacks the root key. */
function refuseWithout(files: readonly KeyringFile[], id: string): void {
  refuseUnless(
    files,
    ({ keyring }) => keyring.ids.includes(id),
    `has no root key ${id}: \`coffer keyring add\` comes first`,
  )
}

function hasActive(id: string): RootKeyCondition {
  return { holds: (now) => now.active === id, about: `activated root key ${id}` }
}

async function rewrap({ config, json }: Options): Promise<void> {
  const files = readKeyrings(config)
  const { active } = files[0].keyring
  refuseUnless(
    files,
    ({ keyring }) => keyring.active === active,
    `has another active root key than ${active}: run \`coffer keyring activate\` first`,
  )
  await reloadRunning(files, hasActive(active))
  let rewrapped = 0
  for (const file of files) {
    for (const node of file.nodes) rewrapped += await rewrapNode(await openKeyringNode(node), file)
  }
  if (json) printJson({ active, rewrapped })
  else print(`${counted(rewrapped, 'key')} rewrapped: root key ${active} wraps all keys`)
}

/**
 * Asks for a rewrap for which nothing is left: a commit of before, however late, is refused from then on.
 * The caller holds the locks of the files.
 */
async function refuseLate([file]: readonly KeyringFile[]): Promise<void> {
  await rewrapNode(await openKeyringNode(file.nodes[0]), file, { always: true, write: changeLocked })
}

type Rewrapping = {
  /** Asks for a rewrap of no key, too. */
  readonly always: boolean
  readonly write: Change
}

/** Returns how many keys another root key wrapped. Closes the node. */
async function rewrapNode(
  node: KeyringNode,
  file: KeyringFile,
  { always, write }: Rewrapping = { always: false, write: change },
): Promise<number> {
  const { active } = file.keyring
  try {
    const { wrapped: before, genesis } = await wrappedKeys(node, hasActive(active))
    const [{ keyring }] = reread([file])
    const orphaned = [...before].find(([id, count]) => count > 0 && !keyring.ids.includes(id))
    if (orphaned) {
      const [id, count] = orphaned
      throw new OperatorError(`root key ${id} wraps ${counted(count, 'key')} and is not in the keyring`, {
        hint: 'put the root key back from a copy of the keyring',
      })
    }
    try {
      if (always || countOthers(before, active) > 0) await untilRewrapped(node, file, { genesis, write })
    } finally {
      // Also removes a flag that an interrupted rewrap has left.
      await write([file], () => ({ edit: (now) => now.askRewrap(false), result: undefined }))
    }
    return countOthers(before, active)
  } finally {
    await node.close()
  }
}

/** The number of keys that the active root key does not wrap. */
function countOthers(wrapped: ReadonlyMap<string, number>, active: string): number {
  return [...wrapped].reduce((sum, [id, count]) => (id === active ? sum : sum + count), 0)
}

/** Asks for a rewrap after the revision `genesis`. Throws OperatorError after STALLED_MS without progress. */
async function untilRewrapped(
  node: KeyringNode,
  file: KeyringFile,
  { genesis, write }: Pick<Rewrapping, 'write'> & { readonly genesis: number },
): Promise<void> {
  const { active } = file.keyring
  let least = Number.POSITIVE_INFINITY
  let progressedAt = performance.now()
  let askedAt = Number.NEGATIVE_INFINITY
  for (;;) {
    if (performance.now() - Math.max(progressedAt, askedAt) > ASK_AGAIN_MS || askedAt < 0) {
      await askRewrap(file, write)
      await node.reload()
      askedAt = performance.now()
    }
    const now = await node.rootKeys()
    const left = now?.wrapped ? countOthers(now.wrapped, active) : least
    if (left === 0 && now && now.genesis > genesis) return
    if (left < least) progressedAt = performance.now()
    least = Math.min(least, left)
    if (performance.now() - progressedAt > STALLED_MS) {
      const rest = Number.isFinite(least) ? `${counted(least, 'key')} left` : 'and does not answer'
      throw new OperatorError(`node ${node.node} has stopped making progress, ${rest}`, {
        hint: 'see its log (a rewrap waits while the ledger is filling), and repeat the rewrap',
      })
    }
    await sleep(POLL_MS)
  }
}

/** Throws OperatorError where another root key has been activated since the command began. */
async function askRewrap(file: KeyringFile, write: Change): Promise<void> {
  const { active } = file.keyring
  await write([file], (now) => {
    const fault = `has another active root key than ${active} by now: repeat the rewrap`
    refuseUnless(now, ({ keyring }) => keyring.active === active, fault)
    return { edit: (keyring) => keyring.askRewrap(true), result: undefined }
  })
}

async function remove(id: string, { config, json }: Options): Promise<void> {
  const files = readKeyrings(config)
  // Under one lock: no other command activates the root key, not even for a moment, once nothing needs it.
  await locked(files, async () => {
    const now = reread(files)
    await refuseNeeded(now, id)
    await refuseLate(now)
    await changeLocked(files, async (last) => {
      await refuseNeeded(last, id)
      return {
        edit: (keyring) => (keyring.ids.includes(id) ? keyring.remove(id) : keyring),
        result: undefined,
      }
    })
  })
  await reloadRunning(files, { holds: (now) => !now.ids.includes(id), about: `let go of root key ${id}` })
  if (json) printJson({ removed: id })
  else print(`root key ${id} is removed`)
  note(`Backups made before the rewrap still need root key ${id}: keep a copy of the old keyring with them.`)
  for (const { path } of files) {
    const older = olderKeyringFile(path)
    note(`${older} still has root key ${id}. Next: move the file to these backups, or delete it: rm ${older}`)
  }
}

/** Throws OperatorError where the root key is active, still wraps a key, or is in no keyring. */
async function refuseNeeded(files: readonly KeyringFile[], id: string): Promise<void> {
  refuseUnless(
    files,
    ({ keyring }) => keyring.active !== id,
    `has root key ${id} active: activate another root key with \`coffer keyring activate\` first`,
  )
  if (files.every(({ keyring }) => !keyring.ids.includes(id)))
    throw new OperatorError(`no keyring has a root key ${id}`, {
      hint: '`coffer keyring list` shows the root keys',
    })
  for (const { keyring, nodes } of files) {
    for (const node of nodes) await refuseWrapping(await openKeyringNode(node), keyring.active, id)
  }
}

/** Closes the node. Throws OperatorError if root key `id` still wraps a key of the node's ledger. */
async function refuseWrapping(node: KeyringNode, active: string, id: string): Promise<void> {
  try {
    // A node with another active root key could still wrap keys by `id`.
    const { wrapped } = await wrappedKeys(node, hasActive(active))
    const count = wrapped.get(id) ?? 0
    if (count === 0) return
    throw new OperatorError(`root key ${id} still wraps ${counted(count, 'key')}`, {
      hint: '`coffer keyring rewrap` comes first',
    })
  } finally {
    await node.close()
  }
}

async function list({ config, json }: Options): Promise<void> {
  const files = readKeyrings(config)
  const wrapped = await countWrapped(files)
  const keys = new Map(files.flatMap(({ keyring }) => keyring.rootKeys).map((key) => [key.id, key]))
  const all = [...keys.values()].map(({ id, createdAt }) => ({
    id,
    active: files.every(({ keyring }) => keyring.active === id),
    created_at: createdAt,
    /** null: unknown, since no node of the vault runs here. */
    wrapped: wrapped?.get(id) ?? (wrapped ? 0 : null),
    missing: files
      .filter(({ keyring }) => !keyring.ids.includes(id))
      .flatMap(({ nodes }) => nodes.map(({ node }) => node)),
  }))
  if (json) return printJson({ root_keys: all })
  const rows = all.map(({ id, active, created_at, wrapped: count, missing }) => [
    id,
    active ? 'active' : '',
    created_at,
    count === null ? '?' : String(count),
    missing.length === 0 ? '' : `missing at ${missing.join(', ')}`,
  ])
  print(table([['root key', '', 'created', 'wraps', ''], ...rows]))
  if (!wrapped) note('No node runs here, so the number of wrapped keys is unknown: start a node to see it.')
}

/** Wrapped keys by root key, from the first node that runs here and is ready; undefined: there is none. */
async function countWrapped(files: readonly KeyringFile[]): Promise<ReadonlyMap<string, number> | undefined> {
  for (const config of files.flatMap(({ nodes }) => nodes)) {
    const node = runningKeyringNode(config)
    const keys = await node?.rootKeys()
    await node?.close()
    if (keys?.wrapped) return keys.wrapped
  }
  return undefined
}

/** Throws OperatorError naming the first keyring for which the condition does not hold. */
function refuseUnless(
  files: readonly KeyringFile[],
  holds: (file: KeyringFile) => boolean,
  fault: string,
): void {
  const failing = files.find((file) => !holds(file))
  if (!failing) return
  const nodes = failing.nodes.map(({ node }) => node).join(', ')
  throw new OperatorError(`the keyring ${failing.path} (node ${nodes}) ${fault}`)
}

/**
 * Has every node that runs here re-read its keyring, and waits until the condition holds. Throws
 * OperatorError.
 */
async function reloadRunning(files: readonly KeyringFile[], condition: RootKeyCondition): Promise<void> {
  for (const config of files.flatMap(({ nodes }) => nodes)) {
    const node = runningKeyringNode(config)
    if (!node) continue
    try {
      await reloadUntil(node, condition)
    } finally {
      await node.close()
    }
  }
}
