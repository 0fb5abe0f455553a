// Preloaded into a command (NODE_OPTIONS=--import): kills the process just before a step. Steps are the calls
// to the file system, from the first call with the path KILL_FILE, and the stages of a request: `request`,
// `sent`, `response`, `answered`. KILL_AT is the number of a step, from 1, or the name of a stage. At the end
// the names of all steps are written to KILL_LOG.
import fs from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'

const { KILL_AT = '', KILL_FILE, KILL_LOG } = process.env
const steps: string[] = []

function step(what: string): void {
  steps.push(what)
  if (what !== KILL_AT && String(steps.length) !== KILL_AT) return
  process.kill(process.pid, 'SIGKILL')
  for (;;); // until the signal arrives
}

type Call = (...args: unknown[]) => unknown
const write = fs.writeFileSync
process.once('exit', () => KILL_LOG && write(KILL_LOG, steps.join('\n')))

// Every property with such a name is a function.
const calls = fs as unknown as Record<string, Call>
for (const [name, call] of Object.entries(calls)) {
  if (!name.endsWith('Sync')) continue
  const counted: Call = (...args) => {
    if (steps.length > 0 || args[0] === KILL_FILE) step(name)
    return call(...args)
  }
  calls[name] = Object.assign(counted, call)
}

const request = http.request
const watched = (...args: Parameters<typeof request>): http.ClientRequest => {
  step('request')
  const call = request(...args)
  call.once('finish', () => step('sent'))
  call.once('response', (response) => {
    step('response')
    response.once('end', () => step('answered'))
  })
  return call
}
http.request = watched as typeof request
syncBuiltinESMExports()
