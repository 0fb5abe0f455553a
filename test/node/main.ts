// A node as a process of its own: `node main.ts CONFIG [CHECKPOINT_EVERY]` prints its URL when it is ready.
import { readConfig } from '../../src/node/config.ts'
import { ignoreStrayRejections, startNode } from '../../src/server/start.ts'

ignoreStrayRejections()
const [, , config, checkpointEvery] = process.argv
const options = checkpointEvery === undefined ? {} : { checkpointEvery: Number(checkpointEvery) }
const node = await startNode(readConfig(config), options)
process.once('SIGTERM', () => {
  node.stop().then(
    () => process.exit(0),
    (error: Error) => {
      console.error(error)
      process.exit(1)
    },
  )
})
process.on('SIGHUP', () => node.reload())
void node.failed.then((error) => {
  console.error(error)
  process.exit(1)
})
node.ready.then(
  () => console.log(node.url),
  () => undefined, // `failed` tells it
)
