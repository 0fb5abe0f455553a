// coffer keyring: changing the root key without a pause. Each step is safe to repeat, and refuses while a
// node is not where the step before has left it.
import { realpathSync } from 'node:fs'
import type { Command } from 'commander'
import { systemClock } from '../clock.ts'
import { Keyring, newRootKey } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import { checkReplaceable, replaceFile } from '../files.ts'
import { type Config, readConfig } from '../node/config.ts'
import { readPrivateFile } from '../node/private-file.ts'
import { sleep } from '../waiting.ts'
import { type Reached, type RootKeys, reach, reachRunning, settle } from './local/reach.ts'
import { counted, note, print, printJson, table } from './terminal/terminal.ts'

type Options = { readonly config: readonly string[]; readonly json?: boolean }

/** A keyring file and the nodes that read it; one file may be that of all nodes. */
type Ring = { readonly path: string; readonly ring: Keyring; readonly nodes: readonly Config[] }

const PROGRESS_MS = 30_000

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
  $ coffer keyring rewrap --config ./vault/n1.yaml         so are all that there are
  $ coffer keyring remove rk-… --config ./vault/n1.yaml    the old one goes

Tokens stay as they are. Nodes that run here are told to re-read their keyring (SIGHUP) and are
asked whether they have; a step refuses while one of them has not. Nodes that do not run read it
when they start. Backups that were made with an old root key still need it: keep a copy of the
old keyring with them.`,
    )
  const step = (name: string, about: string, result: string): Command =>
    keyring
      .command(name)
      .description(about)
      .requiredOption('--config <file...>', 'the configuration files of all nodes')
      .option('--json', `print ${result}`)
  step('add', 'a new root key in every keyring, not active yet', '{"added":ID}')
    .addHelpText('after', '\nExample:\n  $ coffer keyring add --config ./vault/n1.yaml')
    .action(add)
  step('activate', 'new keys are wrapped by this root key from now on', '{"active":ID}')
    .argument('<id>', 'a root key that every keyring has')
    .addHelpText('after', '\nExample:\n  $ coffer keyring activate rk-0123456789ab --config ./vault/n1.yaml')
    .action(activate)
  step('rewrap', 'the active root key wraps whatever another one wraps', '{"active":ID,"rewrapped":N}')
    .addHelpText(
      'after',
      `
Writes "rewrap": true into the keyring, tells the node to read it, waits until no key of the
ledger is wrapped by another root key, and takes it out again. A node that does not run is
started for that, reachable only from this machine. An interrupted rewrap does no harm: repeat it.

Example:
  $ coffer keyring rewrap --config ./vault/n1.yaml`,
    )
    .action(rewrap)
  step('remove', 'takes a root key out of every keyring, for good', '{"removed":ID}')
    .argument('<id>', 'a root key that is not active and wraps nothing any more')
    .addHelpText('after', '\nExample:\n  $ coffer keyring remove rk-0123456789ab --config ./vault/n1.yaml')
    .action(remove)
  step('list', 'the root keys, and how many keys each one wraps', '{"root_keys":[{"id","active",…}]}')
    .addHelpText('after', '\nExample:\n  $ coffer keyring list --config ./vault/n1.yaml')
    .action(list)
}

async function add({ config, json }: Options): Promise<void> {
  const rings = readRings(config)
  const known = new Map(rings.flatMap(({ ring }) => ring.rootKeys).map((key) => [key.id, key]))
  const lacking = [...known.values()].filter(({ id }) => rings.some(({ ring }) => !ring.ids.includes(id)))
  // What an interrupted add has left is brought to its end, instead of another key beside it.
  const added = lacking.length > 0 ? lacking : [newRootKey(systemClock)]
  if (lacking.length > 0) note(`some keyrings lack ${counted(lacking.length, 'root key')} that others have`)
  write(rings, (ring) =>
    added.filter(({ id }) => !ring.ids.includes(id)).reduce((all, key) => all.add(key), ring),
  )
  const ids = added.map(({ id }) => id)
  await onRunning(rings, (now) => ids.every((id) => now.ids.includes(id)), `read root key ${ids.join(', ')}`)
  if (json) printJson({ added: ids.length === 1 ? ids[0] : ids })
  else print(ids.join('\n'))
  note(`every keyring has it. Next: coffer keyring activate ${ids[0]} --config …`)
}

async function activate(id: string, { config, json }: Options): Promise<void> {
  const rings = readRings(config)
  refuseUnless(
    rings,
    ({ ring }) => ring.ids.includes(id),
    `has no root key ${id}: \`coffer keyring add\` comes first`,
  )
  await onRunning(rings, (now) => now.ids.includes(id), `read root key ${id}`)
  write(rings, (ring) => ring.activate(id))
  await onRunning(rings, (now) => now.active === id, `activated root key ${id}`)
  if (json) printJson({ active: id })
  else print(`root key ${id} is active`)
  note('next: coffer keyring rewrap --config …')
}

async function rewrap({ config, json }: Options): Promise<void> {
  const rings = readRings(config)
  const { active } = rings[0].ring
  refuseUnless(
    rings,
    ({ ring }) => ring.active === active,
    `has another active root key than ${active}: \`activate\` it`,
  )
  await onRunning(rings, (now) => now.active === active, `activated root key ${active}`)
  let rewrapped = 0
  for (const one of rings) {
    for (const node of one.nodes) rewrapped += await rewrapNode(await reach(node), one)
  }
  if (json) printJson({ active, rewrapped })
  else print(`${counted(rewrapped, 'key')} rewrapped: root key ${active} wraps all`)
}

/** Returns how many keys were wrapped by another root key before. */
async function rewrapNode(reached: Reached, { path, ring }: Ring): Promise<number> {
  try {
    const before = await settle(
      reached,
      (now) => now.active === ring.active,
      `activated root key ${ring.active}`,
    )
    const orphaned = [...before.wrapped].filter(([id, count]) => count > 0 && !ring.ids.includes(id))
    if (orphaned.length > 0) {
      const [id, count] = orphaned[0]
      throw new OperatorError(
        `root key ${id} wraps ${counted(count, 'key')} and is in no keyring: put it back`,
      )
    }
    // A flag that an interrupted rewrap has left goes too.
    try {
      if (others(before) > 0) {
        replaceFile(path, ring.askRewrap(true).serialize())
        await reached.reload()
        await untilWrapped(reached)
      }
    } finally {
      replaceFile(path, ring.askRewrap(false).serialize())
    }
    return others(before)
  } finally {
    await reached.close()
  }
}

/** Keys that the active root key does not wrap. */
function others({ active, wrapped }: RootKeys): number {
  return [...wrapped].reduce((sum, [id, count]) => (id === active ? sum : sum + count), 0)
}

async function untilWrapped(reached: Reached): Promise<void> {
  let least = Number.POSITIVE_INFINITY
  let progress = performance.now()
  for (;;) {
    const now = await reached.rootKeys()
    const left = now ? others(now) : least
    if (left === 0) return
    if (left < least) progress = performance.now()
    least = Math.min(least, left)
    if (performance.now() - progress > PROGRESS_MS) {
      const rest = counted(least, 'key')
      throw new OperatorError(
        `node ${reached.node} does not get on, ${rest} left: see its log, and repeat the rewrap`,
      )
    }
    await sleep(50)
  }
}

async function remove(id: string, { config, json }: Options): Promise<void> {
  const rings = readRings(config)
  refuseUnless(
    rings,
    ({ ring }) => ring.active !== id,
    `has root key ${id} active: \`activate\` another one first`,
  )
  if (rings.every(({ ring }) => !ring.ids.includes(id)))
    throw new OperatorError(`no keyring has a root key ${id}`)
  for (const { ring, nodes } of rings) {
    for (const node of nodes) await refuseWrapping(await reach(node), ring.active, id)
  }
  write(rings, (ring) => (ring.ids.includes(id) ? ring.remove(id) : ring))
  await onRunning(rings, (now) => !now.ids.includes(id), `let go of root key ${id}`)
  if (json) printJson({ removed: id })
  else print(`root key ${id} is removed`)
  note('backups made before the rewrap still need it: keep a copy of the old keyring with them')
}

async function refuseWrapping(reached: Reached, active: string, id: string): Promise<void> {
  try {
    // A node that has another one active could still wrap by the one that is to go.
    const now = await settle(reached, (each) => each.active === active, `activated root key ${active}`)
    const count = now.wrapped.get(id) ?? 0
    if (count === 0) return
    throw new OperatorError(
      `root key ${id} still wraps ${counted(count, 'key')}: \`coffer keyring rewrap\` comes first`,
    )
  } finally {
    await reached.close()
  }
}

async function list({ config, json }: Options): Promise<void> {
  const rings = readRings(config)
  const wrapped = await countRunning(rings)
  const keys = new Map(rings.flatMap(({ ring }) => ring.rootKeys).map((key) => [key.id, key]))
  const all = [...keys.values()].map(({ id, createdAt }) => ({
    id,
    active: rings.every(({ ring }) => ring.active === id),
    created_at: createdAt,
    /** null: no node runs here that could tell. */
    wrapped: wrapped?.get(id) ?? (wrapped ? 0 : null),
    missing: rings
      .filter(({ ring }) => !ring.ids.includes(id))
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
  if (!wrapped) note('no node runs here: how many keys each one wraps is not known')
}

/** As the first node tells that runs here and is ready. */
async function countRunning(rings: readonly Ring[]): Promise<ReadonlyMap<string, number> | undefined> {
  for (const config of rings.flatMap(({ nodes }) => nodes)) {
    const reached = reachRunning(config)
    const now = await reached?.rootKeys()
    await reached?.close()
    if (now) return now.wrapped
  }
  return undefined
}

/** Throws ConfigError, PrivateFileError, KeyringError. */
function readRings(files: readonly string[]): Ring[] {
  const byPath = new Map<string, Config[]>()
  for (const config of files.map(readConfig)) {
    // Through links, and missing files are told by the reading below.
    let path = config.keyring
    try {
      path = realpathSync(path)
    } catch {}
    byPath.set(path, [...(byPath.get(path) ?? []), config])
  }
  return [...byPath].map(([path, nodes]) => ({ path, nodes, ring: Keyring.parse(readPrivateFile(path)) }))
}

function write(rings: readonly Ring[], change: (ring: Keyring) => Keyring): void {
  const changed = rings
    .map(({ path, ring }) => ({ path, old: ring.serialize(), text: change(ring).serialize() }))
    .filter(({ old, text }) => old !== text)
  for (const { path } of changed) checkReplaceable(path)
  for (const { path, text } of changed) replaceFile(path, text)
}

function refuseUnless(rings: readonly Ring[], holds: (one: Ring) => boolean, what: string): void {
  const not = rings.find((one) => !holds(one))
  if (not)
    throw new OperatorError(
      `the keyring ${not.path} (node ${not.nodes.map(({ node }) => node).join(', ')}) ${what}`,
    )
}

/** Every node that runs here reads its keyring and must then be as wanted. Throws OperatorError. */
async function onRunning(
  rings: readonly Ring[],
  wanted: (now: RootKeys) => boolean,
  what: string,
): Promise<void> {
  for (const config of rings.flatMap(({ nodes }) => nodes)) {
    const reached = reachRunning(config)
    if (!reached) continue
    try {
      await settle(reached, wanted, what)
    } finally {
      await reached.close()
    }
  }
}
