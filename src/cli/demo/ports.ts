// Free ports for three nodes.
import { createServer } from 'node:net'
import { OperatorError } from '../../errors.ts'
import { clusterPorts } from '../config-text.ts'

/** Below the ports of outgoing connections. */
const FIRST = 11_000
const COUNT = 19_000
const TRIES = 100

/** A first port for `initCluster`: all nine ports were free a moment ago. Throws OperatorError. */
export async function freeClusterPort(): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const first = FIRST + Math.floor(Math.random() * COUNT)
    if ((await Promise.all(clusterPorts(first).map(isFree))).every(Boolean)) return first
  }
  throw new OperatorError('nine free ports for three nodes were not found', {
    hint: 'end programs that listen on ports from 11000 on, and try again',
  })
}

export async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const free = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => resolve(true))
  })
  await new Promise<void>((resolve) => server.close(() => resolve()))
  return free
}
