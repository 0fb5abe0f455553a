// Addresses to listen on.
import { BlockList, isIPv4, isIPv6 } from 'node:net'

/**
 * undefined where `text` is not host:port. IPv6 addresses have brackets in `text`, and none in the result.
 */
export function splitListen(text: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253})):(0|[1-9][0-9]{0,4})$/.exec(text)
  if (match === null) return undefined
  const [, address, name = '', digits] = match
  const port = Number(digits)
  const host = address ?? name
  const valid = address === undefined ? isIPv4(name) || isHostName(name) : isIPv6(address)
  return valid && port <= 65535 ? { host, port } : undefined
}

/** A name whose last label is a number is refused: resolvers take such a name for an IPv4 address. */
function isHostName(text: string): boolean {
  const labels = text.split('.')
  const last = labels[labels.length - 1]
  return (
    labels.every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label)) &&
    !/^\d+$/.test(last)
  )
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** True where only the same machine can connect: 127.0.0.0/8, ::1 in any spelling, localhost. */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return loopback.check(host, 'ipv4')
  // The BlockList knows every spelling of ::1, and ::ffff:127.0.0.1.
  if (isIPv6(host)) return loopback.check(host, 'ipv6')
  return host.toLowerCase() === 'localhost'
}
