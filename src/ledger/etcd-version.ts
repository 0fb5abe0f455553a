// The releases of etcd that keep the promises of linearizable reads and of watches. Older releases return
// stale reads after a pause (etcd-io/etcd#20418), or lose watch events.
const OLDEST: readonly (readonly [number, number, number])[] = [
  [3, 5, 33],
  [3, 6, 14],
  [3, 7, 1],
]

/** For messages about a version that is not right. */
export const RIGHT_VERSIONS = '3.5.33, 3.6.14, 3.7.1 or later'

export function versionIsRight(version: string): boolean {
  const [major, minor, patch] = version.split('.').map((part) => Number.parseInt(part, 10))
  const oldest = OLDEST.find((each) => each[0] === major && each[1] === minor)
  if (oldest) return patch >= oldest[2]
  const newest = OLDEST[OLDEST.length - 1]
  return major > newest[0] || (major === newest[0] && minor > newest[1])
}
