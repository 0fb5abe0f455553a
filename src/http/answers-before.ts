// Pipelined requests: what comes behind requests whose answers are still on their way waits for the answers.
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** node:http keeps the answer that is being written here, and has no public name for the answer. */
type Answering = Socket & { readonly _httpMessage?: ServerResponse | null }

/**
 * The answer on its way to a request that has arrived whole; undefined where there is none, also where the
 * body of the request is still arriving.
 */
export function answerBefore(socket: Answering): ServerResponse | undefined {
  // Not `writableFinished`: before Node 24.20 already true while the socket has the answer still.
  const answer = socket._httpMessage
  return answer?.req.complete ? answer : undefined
}

/** The answer to a request whose body is still arriving; undefined where there is none. */
export function answerWhileArriving(socket: Answering): ServerResponse | undefined {
  const answer = socket._httpMessage
  return answer && !answer.req.complete ? answer : undefined
}

/** Calls `work` once the answers before are written; never where the connection ends with them. */
export function afterAnswers(socket: Socket, work: () => void): void {
  const answer = answerBefore(socket)
  if (answer) answer.once('finish', () => afterAnswers(socket, work))
  else if (socket.writable) work()
}
