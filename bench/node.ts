// One node as a child of the benchmark: node.ts <configuration file>. Prints {"url"} when ready.
import { removeMemberPid, writeMemberPid } from '../src/cli/local/node-process.ts'
import { readConfig } from '../src/node/config.ts'
import { ignoreStrayRejections, startNode } from '../src/server/start.ts'

ignoreStrayRejections()
const told = (fields: object, message: string): void => console.error(message, JSON.stringify(fields))
const log = { info: () => undefined, warn: told, error: told }
const config = readConfig(process.argv[2])
const node = await startNode(config, {
  log,
  member: (pid) => (pid === undefined ? removeMemberPid(config) : writeMemberPid(config, pid, console.error)),
})
void node.failed.then((error) => {
  console.error(error)
  process.exit(1)
})
process.once('SIGTERM', () => {
  node.stop().then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    },
  )
})
process.stdin.once('end', () => process.exit(1)).resume()
node.ready.then(
  () => console.log(JSON.stringify({ url: node.url })),
  () => undefined, // `failed` tells it
)
