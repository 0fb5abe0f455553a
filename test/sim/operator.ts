// The operator of a world: changes the files of the nodes, and tells the nodes, as `coffer keys` and `coffer keyring` do.

import type { Clock } from '../../src/clock.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { hashKey } from '../../src/http/auth.ts'
import type { OwnerConfig } from '../../src/node/owners.ts'
import { type Access, AccessJudge, keyOf, type Limits, type Need } from './judge-access.ts'
import type { Machine } from './machine.ts'
import type { Random } from './seed.ts'
import type { Files } from './sim-node.ts'
import type { VirtualTime } from './virtual-time.ts'

/** The key that every owner keeps. */
export const OWN_KEY = 'k1'
/** Keys that came last, with which clients ask, removed or not. */
const LAST_KEYS = 3
const NEEDS: readonly Need[] = ['tokenize', 'detokenize', 'rotate', 'secrets:read', 'secrets:write']
/** Bytes that no owner keeps to. */
const NO_ROOM = 1
/** Milliseconds. */
const LONGEST_LIFE = 20_000
const REWRAP_MS = 10_000
const WITHOUT_ROOM_MS = 500
const LOOK_MS = 200

type OperatorOptions = {
  readonly owners: readonly string[]
  readonly machines: readonly Machine[]
  readonly random: Random
  readonly time: VirtualTime
  readonly clock: Clock
}

export class Operator {
  readonly access: AccessJudge
  readonly #options: OperatorOptions
  /** Ids of keys that came, by owner. */
  readonly #came = new Map<string, string[]>()
  #keyring: Keyring
  /** Root keys are changed by one command at a time. */
  #busy = false

  constructor(options: OperatorOptions) {
    const { owners, clock } = options
    this.#options = options
    const keys = new Map(owners.map((owner) => [keyOf(owner, OWN_KEY), {}]))
    this.access = new AccessJudge({ keys, full: new Set() })
    this.#keyring = Keyring.create(clock)
  }

  /** The files of a new node. */
  files(): Files {
    return { owners: this.#ownersNow(), keyring: this.#keyring }
  }

  /** The id of an API key for a call: most often the key that is always there. */
  caller(owner: string): string {
    const { random } = this.#options
    const came = this.#came.get(owner)?.slice(-LAST_KEYS) ?? []
    return came.length > 0 && random.chance(0.2) ? random.pick(came) : OWN_KEY
  }

  #ownersNow(): OwnerConfig[] {
    const { keys, full } = this.access.now
    return this.#options.owners.map((id) => ({
      id,
      ...(full.has(id) ? { quota: NO_ROOM } : {}),
      removed: [],
      keys: [...keys].flatMap(([key, limits]) => {
        const name = key.slice(id.length + 1)
        return key === keyOf(id, name) ? [{ id: name, sha256: hashKey(key), ...limits }] : []
      }),
    }))
  }

  /** The same change in the files of all nodes; then each node is told. */
  async #change(access: Access): Promise<void> {
    this.access.change(access)
    for (const { files } of this.#options.machines) files.owners = this.#ownersNow()
    await this.#tellAll()
  }

  async #tellAll(): Promise<void> {
    const { machines, random, time } = this.#options
    const tell = async (machine: Machine): Promise<void> => {
      await time.sleep(random.below(5))
      const read = this.access.reads(machine.name)
      if (await machine.reload()) read()
    }
    await Promise.all(machines.map(tell))
  }

  /** A key comes, goes or is limited otherwise; or the quota of an owner is used up for a while. */
  async changeOwners(): Promise<void> {
    const { owners, random } = this.#options
    const owner = random.pick(owners)
    if (random.chance(0.2)) return this.#withoutRoom(owner)
    const keys = new Map(this.access.now.keys)
    const came = this.#came.get(owner) ?? []
    const there = came.filter((id) => keys.has(keyOf(owner, id)))
    if (there.length > 0 && random.chance(0.5)) keys.delete(keyOf(owner, random.pick(there)))
    else if (there.length > 0 && random.chance(0.4))
      keys.set(keyOf(owner, random.pick(there)), this.#limits())
    else this.#come(owner, keys)
    await this.#change({ keys, full: this.access.now.full })
  }

  async #withoutRoom(owner: string): Promise<void> {
    const { random, time } = this.#options
    const { keys, full } = this.access.now
    if (full.has(owner)) return
    await this.#change({ keys, full: new Set([...full, owner]) })
    await time.sleep(random.below(WITHOUT_ROOM_MS))
    const others = [...this.access.now.full].filter((each) => each !== owner)
    await this.#change({ keys: this.access.now.keys, full: new Set(others) })
  }

  /** Returns the id of the new key. */
  #come(owner: string, keys: Map<string, Limits>, limits = this.#limits()): string {
    const came = this.#came.get(owner) ?? []
    this.#came.set(owner, came)
    const id = `g${came.length + 1}`
    came.push(id)
    keys.set(keyOf(owner, id), limits)
    return id
  }

  #limits(): Limits {
    const { random, machines } = this.#options
    const now = machines[0].now
    return {
      ...(random.chance(0.4) ? { may: NEEDS.filter(() => random.chance(0.5)) } : {}),
      ...(random.chance(0.2) ? { until: now + random.below(LONGEST_LIFE) } : {}),
    }
  }

  /** A key with all rights; `use` is done with the key, then the key is removed. */
  async withKey(owner: string, use: (id: string) => Promise<void>): Promise<string> {
    const { keys, full } = this.access.now
    const more = new Map(keys)
    const id = this.#come(owner, more, {})
    await this.#change({ keys: more, full })
    await use(id)
    const fewer = new Map(this.access.now.keys)
    fewer.delete(keyOf(owner, id))
    await this.#change({ keys: fewer, full: this.access.now.full })
    return id
  }

  /** Every quota is lifted. */
  async mend(): Promise<void> {
    await this.#change({ keys: this.access.now.keys, full: new Set() })
  }

  /**
   * One root key takes the place of the other: add, activate, rewrap, remove; goes on where it ended before. Sometimes the
   * operator goes back and forth before one of the two is removed.
   */
  async changeRootKeys(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    const { random } = this.#options
    try {
      if (this.#keyring.ids.length === 1) await this.#put((ring) => ring.add(newRootKey(this.#options.clock)))
      const [old, fresh] = this.#keyring.ids
      let [going, staying] = [old, fresh]
      for (let turns = random.chance(0.4) ? 1 + random.below(3) : 0; ; turns--) {
        if (!(await this.#activated(staying))) return
        if (turns === 0) break
        if (random.chance(0.6)) await this.#rewrapped(going)
        ;[going, staying] = [staying, going]
      }
      if (!(await this.#rewrapped(going))) return
      if (this.#inForce((ring) => ring.active === staying) && this.#wrappedBy(going) === 0)
        await this.#put((ring) => ring.remove(going))
    } finally {
      this.#busy = false
    }
  }

  /** Whether the root key is active on every node that runs. */
  async #activated(id: string): Promise<boolean> {
    if (this.#keyring.active !== id && this.#inForce(({ ids }) => ids.includes(id)))
      await this.#put((ring) => ring.activate(id))
    return this.#keyring.active === id && this.#inForce((ring) => ring.active === id)
  }

  async #put(change: (ring: Keyring) => Keyring): Promise<void> {
    this.#keyring = change(this.#keyring)
    for (const { files } of this.#options.machines) files.keyring = this.#keyring
    await this.#tellAll()
  }

  /** Of every node that runs; another node reads its files when it starts. */
  #inForce(holds: (ring: Keyring) => boolean): boolean {
    return this.#options.machines.every(({ run }) => !run || holds(run.node.keyring))
  }

  /** Keys that the nodes know to be wrapped by the root key; more than zero where a node is not ready to tell. */
  #wrappedBy(id: string): number {
    const counts = this.#options.machines.map(({ run }) =>
      run?.ready ? run.services?.wrappedKeys.counts() : undefined,
    )
    return counts.reduce((sum, count) => sum + (count ? (count.get(id) ?? 0) : 1), 0)
  }

  /** Whether the root key wraps nothing, after a rewrap that every node has seen to begin. */
  async #rewrapped(id: string): Promise<boolean> {
    const { time } = this.#options
    const before = Math.max(...this.#genesisRevisions())
    await this.#put((ring) => ring.askRewrap(true))
    const end = time.now + REWRAP_MS
    const isDone = (): boolean =>
      this.#wrappedBy(id) === 0 && this.#genesisRevisions().every((revision) => revision > before)
    while (!isDone() && time.now < end) await time.sleep(LOOK_MS)
    await this.#put((ring) => ring.askRewrap(false))
    return isDone()
  }

  /** Of the nodes, as each has applied the genesis; 0 where a node does not run. */
  #genesisRevisions(): number[] {
    return this.#options.machines.map(({ run }) => run?.services?.replica.state.genesisRevision ?? 0)
  }
}
