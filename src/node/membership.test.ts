import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServiceClientConstructor,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { Membership } from './membership.ts'

const PEER = 'http://127.0.0.1:2'
const PROTO = join(import.meta.dirname, '../ledger/etcd.proto')

/** A cluster that accepts every promotion and lists its member as a learner for ever. */
class DeafCluster implements AsyncDisposable {
  promotions = 0
  readonly url: string
  readonly #server: Server

  private constructor(server: Server, port: number) {
    this.#server = server
    this.url = `http://127.0.0.1:${port}`
  }

  static async start(): Promise<DeafCluster> {
    const loaded = loadPackageDefinition(loadSync(PROTO, { keepCase: true, longs: String }))
    const { Cluster } = loaded.etcdserverpb as unknown as Record<'Cluster', ServiceClientConstructor>
    const server = new Server()
    const members = [{ ID: '7', name: 'n2', peerURLs: [PEER], isLearner: true }]
    const answer = (_: unknown, callback: sendUnaryData<object>): void => callback(null, { members })
    let cluster: DeafCluster | undefined
    server.addService(Cluster.service, {
      MemberList: answer,
      MemberAdd: answer,
      MemberRemove: answer,
      MemberPromote: (call: unknown, callback: sendUnaryData<object>) => {
        if (cluster && ++cluster.promotions <= 100) answer(call, callback)
        else callback({ code: status.UNAVAILABLE, details: 'promoted too often' }, null)
      },
    })
    const bound = Promise.withResolvers<number>()
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? bound.reject(error) : bound.resolve(port),
    )
    cluster = new DeafCluster(server, await bound.promise)
    return cluster
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown()
  }
}

test('a promotion that is accepted and changes nothing is repeated with pauses, and ends in time', async () => {
  await using cluster = await DeafCluster.start()
  const membership = new Membership({ kind: 'etcd', endpoints: [cluster.url] })
  try {
    await assert.rejects(membership.promote(PEER, 600), /still lists the member at .* as a learner/)
    assert.ok(cluster.promotions <= 5, `${cluster.promotions} promotions in 0.6 s`)
  } finally {
    membership.close()
  }
})
