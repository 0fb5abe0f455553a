// The vault for code without promises, such as the functions of DuckDB: a thread has the client of the API,
// and the calling thread stands still until the answer has come.
import { fileURLToPath } from 'node:url'
import {
  MessageChannel,
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from 'node:worker_threads'
import { assert } from '../assert.ts'
import { NOT_A_NODE } from '../client/error.ts'
import { Coffer, CofferError } from '../client/index.ts'
import { OperatorError } from '../errors.ts'
import { BYTES_A_REQUEST, isTooLarge, RequestSize } from '../table/requests.ts'
import type { Operation, Vault } from '../table/vault.ts'
import { type Answers, askAll, type Question } from './batches.ts'
import { type AnswerColumn, answersIn, bodyOf, columnIn, columnOf, questionOf } from './bodies.ts'

const ROLE = 'coffer-vault'
/** How long the thread may be silent: each answer of the vault is a sign, and a call ends within 10 s. */
const SILENT_MS = 60_000
/** DuckDB asks a second time after a failure while it plans a query: the second failure comes at once. */
const REMEMBERED_MS = 1_000

/** The nodes of a vault and the API key, for a client in a thread. */
export type VaultAddress = {
  /** `http://host:port` of each node; in a string, separated by commas. */
  readonly urls: string | readonly string[]
  readonly key: string
  /** PEM of the authority of the nodes' certificates. */
  readonly ca?: Buffer | string
}

/** An answer of the vault, or none. The message has slug and request id, and never a value or a key. */
export class VaultError extends OperatorError {
  override readonly name = 'VaultError'
  readonly slug: string

  constructor({ slug, detail, instance, needs }: Failure) {
    const request = instance === '' ? '' : `, request ${instance}`
    const fault = needs === undefined ? detail : `the API key lacks the right \`${needs}\``
    super(`${fault} (${slug}${request})`, { hint: HINTS[slug] ?? GENERAL_HINT })
    this.slug = slug
  }
}

const GENERAL_HINT = 'docs/errors.md says what to do'
const HINTS: Readonly<Record<string, string>> = {
  unauthorized: 'check COFFER_KEY',
  forbidden: 'use an API key with the right',
  unreachable: 'check COFFER_URL, and that the nodes run',
  timeout: 'check COFFER_URL, and that the nodes run',
  'already-a-token': 'leave out the rows that are tokens, as by WHERE token_epoch(x) IS NULL',
  'invalid-value': 'CAST numbers beyond 2^53 - 1 to VARCHAR; a text has at most 32 KiB',
}

type Thread = { readonly worker: Worker; readonly port: MessagePort }
type Opening = { readonly port: MessagePort; readonly flag: Int32Array; readonly address: VaultAddress }
/** A question of `count` values as the body of a request; the bytes are moved to the thread. */
export type Body = {
  readonly operation: Operation
  readonly count: number
  readonly body: Uint8Array<ArrayBuffer>
}
/** A question to the thread, and the reply; by the number of the question. */
type Sent = Body & { readonly number: number }
type Received = { readonly number: number; readonly reply: Reply }
type Failure = {
  readonly kind: 'failed'
  readonly slug: string
  readonly detail: string
  readonly instance: string
  /** The right that the key lacks. */
  readonly needs?: string
  /** Which next question would have the same failure: of the same operation, or any. */
  readonly lasts: 'not' | 'operation' | 'vault'
}
/** `body`: of the answer to a request; `answered`: of several requests. */
type Reply =
  | { readonly kind: 'body'; readonly body: Uint8Array<ArrayBuffer> }
  | ({ readonly kind: 'answered' } & Answers)
  | Failure

/** Blocks the calling thread, and with it the event loop, until the vault has answered. */
export class BlockingVault {
  readonly #address: VaultAddress
  /** How many signs of the thread have come: replies, and answers to a part of a question. */
  readonly #flag = new Int32Array(new SharedArrayBuffer(4))
  /** Replies nobody has taken yet, by the number of the question. */
  readonly #replies = new Map<number, Reply>()
  #questions = 0
  #thread: Thread | undefined
  readonly #failures = new Map<Operation | 'vault', { readonly error: VaultError; readonly until: number }>()
  readonly #silentMs: number

  /** Throws TypeError for a malformed address. The thread starts at once: DuckDB is opened meanwhile. */
  constructor(address: VaultAddress, silentMs = SILENT_MS) {
    this.#silentMs = silentMs
    new Coffer(address).close() // checks the address
    const { ca } = address
    // A buffer arrives in the thread as another type.
    this.#address = ca === undefined ? address : { ...address, ca: ca.toString() }
    this.#thread = this.#start()
  }

  /** Throws VaultError. */
  ask(question: Question): Answers {
    const sent = bodyFor(question)
    return this.#answersOf(sent, this.#wait(this.#send(sent)))
  }

  /**
   * Asks several questions, each as soon as it is made, and gives the answers as texts to `take`, in order:
   * the vault works while the next question is made, and while answers are taken. Throws VaultError, once
   * every question has its reply.
   */
  askColumns<T extends Body>(
    questions: Iterable<T>,
    take: (question: T, column: AnswerColumn) => void,
  ): void {
    const asked: (readonly [T, number])[] = []
    let failure: { readonly error: unknown } | undefined
    try {
      for (const question of questions) asked.push([question, this.#send(question)])
    } catch (error) {
      failure = { error }
    }
    for (const [question, number] of asked) {
      try {
        const column = this.#columnOf(question, this.#wait(number))
        if (!failure) take(question, column)
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure) throw failure.error
  }

  #columnOf({ operation, count }: Body, reply: Reply): AnswerColumn {
    const checked = this.#checked(reply, operation)
    if (checked.kind === 'answered') return columnOf(checked.answers)
    return columnIn(operation, checked.body, count) ?? this.#fail(STRANGE, operation)
  }

  /** Does not block. The caller asks no other question meanwhile. Throws VaultError. */
  async askLater(question: Question): Promise<Answers> {
    const sent = bodyFor(question)
    const number = this.#send(sent)
    const worker = this.#thread?.worker
    worker?.ref() // else the process may end
    try {
      for (;;) {
        const seen = Atomics.load(this.#flag, 0)
        const reply = this.#take(number)
        if (reply) return this.#answersOf(sent, reply)
        checkAnswered(await Atomics.waitAsync(this.#flag, 0, seen, this.#silentMs).value)
      }
    } finally {
      worker?.unref()
    }
  }

  /** Returns the number of the question. */
  #send({ operation, count, body }: Body): number {
    for (const key of ['vault', operation] as const) {
      const failure = this.#failures.get(key)
      if (failure && performance.now() < failure.until) throw failure.error
    }
    const { port } = (this.#thread ??= this.#start())
    const sent: Sent = { number: this.#questions++, operation, count, body }
    port.postMessage(sent, [body.buffer])
    return sent.number
  }

  #wait(number: number): Reply {
    for (;;) {
      const seen = Atomics.load(this.#flag, 0)
      const reply = this.#take(number)
      if (reply) return reply
      checkAnswered(Atomics.wait(this.#flag, 0, seen, this.#silentMs))
    }
  }

  /** The reply to a question; undefined where the reply has not come. */
  #take(number: number): Reply | undefined {
    const port = this.#thread?.port
    for (;;) {
      const known = this.#replies.get(number)
      if (known && this.#replies.delete(number)) return known
      const received: Received | undefined = port && receiveMessageOnPort(port)?.message
      if (!received) return undefined
      this.#replies.set(received.number, received.reply)
    }
  }

  #answersOf({ operation, count }: Body, reply: Reply): Answers {
    const checked = this.#checked(reply, operation)
    if (checked.kind === 'answered') return checked
    return answersIn(operation, checked.body, count) ?? this.#fail(STRANGE, operation)
  }

  #checked(reply: Reply, operation: Operation): Exclude<Reply, Failure> {
    return reply.kind === 'failed' ? this.#fail(reply, operation) : reply
  }

  #fail(failure: Failure, operation: Operation): never {
    const error = new VaultError(failure)
    const key = failure.lasts === 'operation' ? operation : 'vault'
    if (failure.lasts !== 'not') this.#failures.set(key, { error, until: performance.now() + REMEMBERED_MS })
    throw error
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    const { worker, port } = this.#thread ?? {}
    this.#thread = undefined
    port?.close()
    await worker?.terminate()
  }

  #start(): Thread {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: ROLE })
    const { port1: port, port2 } = new MessageChannel()
    // The key is in a message: worker data are in reports of the process.
    const opening: Opening = { port: port2, flag: this.#flag, address: this.#address }
    worker.postMessage(opening, [port2])
    worker.unref()
    port.unref()
    return { worker, port }
  }
}

function checkAnswered(waited: 'ok' | 'not-equal' | 'timed-out'): void {
  assert(waited !== 'timed-out', 'the thread of the vault answers')
}

/** The thread's side: answers questions, several at the same time. */
function serve({ port, flag, address }: Opening): void {
  const coffer = new Coffer(address)
  const sign = (): void => {
    Atomics.add(flag, 0, 1)
    Atomics.notify(flag, 0)
  }
  const vault = signalling(coffer, sign)
  const sizes = {
    tokenize: new RequestSize('tokenize'),
    detokenize: new RequestSize('detokenize'),
    retokenize: new RequestSize('retokenize'),
  }
  port.on('message', (sent: Sent) => {
    void replyTo({ coffer, vault, sent, size: sizes[sent.operation] }).then((reply) => {
      const received: Received = { number: sent.number, reply }
      port.postMessage(received, reply.kind === 'body' ? [reply.body.buffer] : [])
      sign()
    })
  })
}

/** The calls of a vault; `sign` is called behind each. */
function signalling(vault: Vault, sign: () => void): Vault {
  return {
    tokenize: (values, options) => vault.tokenize(values, options).finally(sign),
    detokenize: (tokens) => vault.detokenize(tokens).finally(sign),
    retokenize: (tokens) => vault.retokenize(tokens).finally(sign),
  }
}

type Asked = {
  readonly coffer: Coffer
  /** The same, for questions of several requests. */
  readonly vault: Vault
  readonly sent: Body
  readonly size: RequestSize
}

async function replyTo({ coffer, vault, sent, size }: Asked): Promise<Reply> {
  try {
    const body = await answerInOne(coffer, sent, size)
    // A copy: the buffer may be a part of another.
    if (body) return { kind: 'body', body: new Uint8Array(body) }
    const answers = await askAll(vault, questionOf(sent.operation, sent.body), size)
    return { kind: 'answered', ...answers }
  } catch (error) {
    return failureOf(error)
  }
}

/** The answer of a single request; undefined where the question needs several, or may need several. */
async function answerInOne(coffer: Coffer, sent: Body, size: RequestSize): Promise<Buffer | undefined> {
  const { operation, count, body } = sent
  if (size.expectedBytes === 0 || count > size.values || body.length > BYTES_A_REQUEST) return undefined
  try {
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.length)
    const answer = await coffer.post(`/${operation}`, bytes)
    size.seen(count, answer.length)
    return answer
  } catch (error) {
    if (isTooLarge(error)) return undefined
    throw error
  }
}

function bodyFor(question: Question): Body {
  const { operation, values } = question
  return { operation, count: values.length, body: bodyOf(question) }
}

const STRANGE: Failure = {
  kind: 'failed',
  slug: 'unexpected-answer',
  detail: `an answer is not from a vault: ${NOT_A_NODE}`,
  instance: '',
  lasts: 'not',
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof CofferError)) {
    const detail = error instanceof Error ? error.message : String(error)
    return { kind: 'failed', slug: 'internal', detail, instance: '', lasts: 'not' }
  }
  const { slug, detail, instance, retryable, status, members } = error
  const isOfVault = status === 0 || status === 401
  const lasts = isOfVault ? 'vault' : retryable || status === 403 ? 'operation' : 'not'
  const needs = typeof members.needs === 'string' ? { needs: members.needs } : {}
  return { kind: 'failed', slug, detail, instance, ...needs, lasts }
}

if (workerData === ROLE) parentPort?.once('message', serve)
