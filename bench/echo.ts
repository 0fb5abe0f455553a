// A bare Fastify that answers with the request's body: the floor of a request. Prints {"url"} when ready.
import fastify from 'fastify'

const app = fastify()
app.post('/echo', async (request) => request.body)
const url = await app.listen({ host: '127.0.0.1', port: 0 })
process.once('SIGTERM', () => {
  app.server.closeAllConnections()
  void app.close().then(() => process.exit(0))
})
process.stdin.once('end', () => process.exit(1)).resume()
console.log(JSON.stringify({ url }))
