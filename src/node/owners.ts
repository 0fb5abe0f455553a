// The owners of a configuration file, and their API keys with rights and limits.
import {
  isId,
  isKeyPrefix,
  isRight,
  KEY_PREFIX_RULE,
  type KeyLimits,
  parseInstant,
  RIGHTS,
  type Right,
} from '../wire.ts'
import { type ConfigValue, UniqueTexts } from './config-value.ts'

/** `sha256` is 64 lower-case hex digits, the hash of the whole API key. */
export type KeyConfig = KeyLimits & { readonly id: string; readonly sha256: string }
/** A key that was: its id is not given again. `removed` is an instant of RFC 3339. */
type RemovedKey = { readonly id: string; readonly removed: string }
export type OwnerConfig = {
  readonly id: string
  /** Bytes that all entries of the owner may take in the ledger; absent: any number. */
  readonly quota?: number
  readonly keys: readonly KeyConfig[]
  readonly removed: readonly RemovedKey[]
}

const KEY_LIMITS = ['may', 'prefix', 'until', 'resolve_per_day'] as const
const INSTANT = 'an instant, as 2026-01-31T12:00:00Z'
const MOST_A_DAY = 1e12

export function readId(value: ConfigValue): string {
  const expected = 'an id of 1 to 64 characters of a-z 0-9 . _ - that begins with a letter or digit'
  return value.text(expected, isId)
}

export function readOwners(value: ConfigValue): OwnerConfig[] {
  const ids = new UniqueTexts()
  const hashes = new UniqueTexts()
  return value.list('a list of at least one owner', 1).map((item) => {
    const at = item.members('id', 'quota', 'keys')
    const id = readId(at.id)
    ids.check(id, at.id, 'name each owner once')
    const quota = at.quota.given ? { quota: at.quota.bytes() } : {}
    return { id, ...quota, ...(at.keys.given ? readKeys(at.keys, hashes) : { keys: [], removed: [] }) }
  })
}

function readKeys(value: ConfigValue, hashes: UniqueTexts): Pick<OwnerConfig, 'keys' | 'removed'> {
  const ids = new UniqueTexts()
  const keys: KeyConfig[] = []
  const removed: RemovedKey[] = []
  for (const item of value.list('a list of keys ([] for none)')) {
    const at = item.members('id', 'sha256', 'removed', ...KEY_LIMITS)
    const id = readId(at.id)
    ids.check(id, at.id, 'name each key of an owner once; the id of a removed key is not given again')
    if (at.removed.given) {
      removed.push({ id, removed: at.removed.text(INSTANT, isInstant) })
      for (const name of ['sha256', ...KEY_LIMITS] as const)
        if (at[name].given) at[name].fault('of a removed key; remove one of the two members')
      continue
    }
    const expected = "64 lower-case hex digits, the API key's SHA-256"
    const sha256 = at.sha256.text(expected, (text) => /^[0-9a-f]{64}$/.test(text))
    hashes.check(sha256, at.sha256, 'an API key belongs to one owner, once: `coffer keys add` makes another')
    keys.push({ id, sha256, ...readKeyLimits(at) })
  }
  return { keys, removed }
}

function isInstant(text: string): boolean {
  return parseInstant(text) !== undefined
}

function readKeyLimits(at: Record<(typeof KEY_LIMITS)[number], ConfigValue>): KeyLimits {
  const until = at.until.given ? parseInstant(at.until.text(INSTANT, isInstant)) : undefined
  return {
    ...(at.may.given ? { may: readRights(at.may) } : {}),
    ...(at.prefix.given ? { prefix: at.prefix.text(KEY_PREFIX_RULE, isKeyPrefix) } : {}),
    ...(until === undefined ? {} : { until }),
    ...(at.resolve_per_day.given ? { resolve_per_day: at.resolve_per_day.whole(1, MOST_A_DAY) } : {}),
  }
}

function readRights(value: ConfigValue): Right[] {
  const unique = new UniqueTexts()
  const given = new Set<string>()
  for (const item of value.list('a list of rights ([] for none)')) {
    const right = item.text(`one of ${RIGHTS.join(', ')}`, isRight)
    unique.check(right, item, 'name each right once')
    given.add(right)
  }
  return RIGHTS.filter((right) => given.has(right))
}
