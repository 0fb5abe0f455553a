// coffer demo cluster: three nodes and many callers, the loss of a node, a rotation, DuckDB, a .env file, and
// the history of a secret.
import { isDeepStrictEqual } from 'node:util'
import { assert } from '../../assert.ts'
import { loadDuckDB } from '../../duckdb/package.ts'
import { OperatorError } from '../../errors.ts'
import { counted, print, table } from '../terminal/terminal.ts'
import { Book, Callers, numberOf } from './callers.ts'
import { joinTables, migrate, Tables, tokenize, tokenizeLater } from './duckdb.ts'
import { ENV_VALUES, encrypt, Project, run, SHOP, update } from './env.ts'
import type { Scenario } from './scenario.ts'
import type { Stage } from './stage.ts'
import type { StageNode } from './stage-node.ts'
import { check, claim, nowhereIn } from './story.ts'
import { NUMBERS } from './tables.ts'
import { ask, leaderOf, seconds, showEqual, startThree } from './three-nodes.ts'
import { printEvent } from './timeline.ts'

const CLINIC = 'clinic'
const PHARMACY = 'pharmacy'
const CALLERS = 24
/** Requests before and after a fault, in the chapters with callers. */
const REQUESTS = 300
/** How many values of callers are looked for on the disks. */
const SAMPLE = 10

export const cluster: Scenario = {
  about: 'three nodes: many callers, a node lost and back, a rotation, DuckDB, .env, history',
  nodes: 3,
  owners: [CLINIC, PHARMACY, SHOP],
  play,
  next: `  coffer init ./vault --nodes 3 --owner ${CLINIC} --field patient.ssn
  coffer cluster start ./vault
  coffer log ./vault --html timeline.html

\`coffer demo failure\` goes on where no majority is left.`,
}

async function play(stage: Stage): Promise<void> {
  print(`Three nodes in ${stage.dir}, each with a member of an etcd cluster; three owners.`)
  const book = new Book()
  const tables = (await hasDuckDB()) ? new Tables(stage) : undefined
  await stage.chapter('Three nodes, one ledger')
  await startThree(stage, CLINIC)
  await stage.chapter('Many callers at once: one value has one token, on whichever node')
  await callAtOnce(stage, book)
  await stage.chapter('Owners are isolated')
  await isolate(stage, book)
  await stage.chapter('A node is killed, and the callers go on')
  const lost = await lose(stage, book)
  await stage.chapter('The node comes back while the callers go on, and catches up')
  await comeBack(stage, book, lost)
  if (tables) {
    await stage.chapter('DuckDB joins tables by their tokens')
    await tokenize(tables)
    await joinTables(tables)
  }
  await stage.chapter('A rotation by the API, while the callers go on')
  await rotate(stage, book)
  await stage.chapter('The migration window: old tokens resolve, and become new tokens')
  await migrateTokens(stage, book)
  if (tables) {
    await stage.chapter('DuckDB after the rotation: tables join again once their tokens are migrated')
    await tokenizeLater(tables)
    await migrate(tables)
  }
  await secrets(stage)
  await stage.chapter('No value is on any disk in clear')
  const sample = Array.from({ length: SAMPLE }, (_, i) => numberOf(i))
  nowhereIn(stage.vaultDir, [...sample, ...(tables ? NUMBERS : []), ...ENV_VALUES])
}

/** Tells where chapters are left out. */
async function hasDuckDB(): Promise<boolean> {
  try {
    await loadDuckDB()
    return true
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error
    print(`\nThe chapters of DuckDB are left out: ${error.message}; ${error.hint}.`)
    return false
  }
}

/** As many callers on each node: a client goes on to the next node where its own does not answer. */
function callers(stage: Stage, book: Book): Callers {
  const running = stage.nodes.filter(({ runs }) => runs)
  const clients = Array.from({ length: CALLERS }, (_, i) => {
    const first = i % running.length
    return stage.client(CLINIC, [...running.slice(first), ...running.slice(0, first)])
  })
  return new Callers(clients, book)
}

async function callAtOnce(stage: Stage, book: Book): Promise<void> {
  const began = performance.now()
  await using calling = callers(stage, book)
  await calling.more(REQUESTS)
  const { answers, failures } = await calling.stop()
  const { tokens } = book.ofEpoch(1)
  print(
    `  ${CALLERS} callers over three nodes sent ${answers.length} requests of 20 values in ` +
      `${seconds(performance.now() - began)}: ${tokens.length} values, most of them many times.\n`,
  )
  claimAnswered(failures, 'every request was answered')
  await claimOneToken(stage, book)
}

function claimAnswered([failure]: readonly string[], statement: string): void {
  check(failure === undefined, `${statement} (a caller was told: ${failure})`)
  claim(true, statement)
}

/** Checks all answers so far: no value has two tokens, and no node holds a token twice or lacks a token. */
async function claimOneToken(stage: Stage, book: Book): Promise<void> {
  claim(book.conflicts === 0, 'one value has one token, and one token one value, whoever asked')
  const { tokens, values } = book.ofEpoch(1)
  const running = stage.nodes.filter(({ runs }) => runs)
  const clients = running.map((node) => stage.client(CLINIC, [node]))
  const counts = await Promise.all(clients.map(async (client) => (await client.epochs()).epochs[0].tokens))
  const found = await Promise.all(clients.map((client) => client.detokenize(tokens)))
  const names = running.map(({ name }) => name).join(', ')
  claim(
    counts.every((count) => count === tokens.length),
    `${names}: each counts ${tokens.length} tokens, so none is there twice`,
  )
  claim(
    found.every((each) => isDeepStrictEqual(each.values, values)),
    `${names}: each resolves all of them`,
  )
}

async function isolate(stage: Stage, book: Book): Promise<void> {
  const [first, second] = stage.nodes
  const { tokens, values } = book.ofEpoch(1)
  const { tokens: own } = await stage.client(PHARMACY, [second]).tokenize([values[0]])
  print(
    table(
      [
        ['owner', 'node', `token of ${values[0]}`],
        [CLINIC, first.name, tokens[0]],
        [PHARMACY, second.name, String(own[0])],
      ],
      '  ',
    ),
  )
  claim(own[0] !== tokens[0], 'another owner has another token for the same value')
  const key = stage.key(PHARMACY)
  const request = { node: second, key, method: 'POST', path: '/detokenize' } as const
  const foreign = await ask({ ...request, body: { token: tokens[0] } })
  const never = await ask({
    ...request,
    body: { token: own[0]?.replace(/.$/, (last) => (last === '0' ? '1' : '0')) },
  })
  const same = ({ json: { instance: _, ...json }, status }: typeof foreign): unknown => ({ status, json })
  claim(foreign.status === 404, 'a token of the clinic is not found by the key of the pharmacy')
  claim(
    isDeepStrictEqual(same(foreign), same(never)),
    'the answer is the same as for a token that nobody has',
  )
  const { epochs } = await stage.client(PHARMACY).epochs()
  claim(epochs[0].tokens === 1, 'the pharmacy counts its own token, and none of the clinic')
}

/** Returns the killed node. */
async function lose(stage: Stage, book: Book): Promise<StageNode> {
  const victim = await leaderOf(stage, CLINIC)
  await using calling = callers(stage, book)
  await calling.more(REQUESTS)
  print(`  kill -9 ${victim.pids.node}     # ${victim.name}, whose member leads, under ${CALLERS} callers`)
  const began = performance.now()
  await victim.kill()
  const leader = await leaderOf(stage, CLINIC)
  print(`  ${leader.name} leads after ${seconds(performance.now() - began)}`)
  await calling.more(REQUESTS)
  const { answers, failures, longestGapMs } = await calling.stop()
  const after = answers.filter((answer) => answer.began > began).length
  print(
    `  ${answers.length} requests, ${after} of them begun after the kill; ` +
      `the longest time without any answer: ${seconds(longestGapMs)}\n`,
  )
  claimAnswered(failures, 'no request failed: the callers went on to the other nodes')
  await claimOneToken(stage, book)
  return victim
}

async function comeBack(stage: Stage, book: Book, lost: StageNode): Promise<void> {
  await using calling = callers(stage, book)
  const began = performance.now()
  await lost.start()
  print(`  ${lost.name} is back and ready after ${seconds(performance.now() - began)}.`)
  claim(
    printEvent(stage.vaultDir, lost.name, 'replica.caught-up'),
    'its event log says what it has caught up',
  )
  await calling.more(REQUESTS)
  const { failures } = await calling.stop()
  claimAnswered(failures, 'no request failed meanwhile')
  await claimOneToken(stage, book)
  print('')
  await showEqual(stage, CLINIC)
}

async function rotate(stage: Stage, book: Book): Promise<void> {
  await using calling = callers(stage, book)
  await calling.more(REQUESTS)
  const [node] = stage.nodes
  const { epoch, rotated } = await stage.client(CLINIC, [node]).rotateEpoch(2)
  const acknowledged = performance.now()
  print(`  POST /rotate-epoch {"to":2}     # at ${node.name}, while ${CALLERS} callers go on\n`)
  check(epoch === 2 && rotated, 'the rotation opens epoch 2')
  await calling.more(REQUESTS)
  const { answers, failures } = await calling.stop()
  const later = answers.filter(({ began }) => began > acknowledged)
  const rows = [1, 2].map((number) => [
    String(number),
    String(answers.filter((answer) => answer.epoch === number).length),
    String(later.filter((answer) => answer.epoch === number).length),
  ])
  print(table([['epoch', 'requests', 'begun after the rotation was acknowledged'], ...rows], '  '))
  claimAnswered(failures, 'no request failed')
  claim(
    answers.every(({ isMixed }) => !isMixed),
    'no answer mixes epochs',
  )
  check(later.length > 0, 'callers went on after the rotation')
  claim(
    later.every((answer) => answer.epoch === 2),
    'no later request has a token of the old epoch, on whichever node',
  )
  const { epochs } = await stage.client(PHARMACY).epochs()
  claim(epochs.length === 1, 'the epoch of the pharmacy is untouched')
}

async function migrateTokens(stage: Stage, book: Book): Promise<void> {
  const { tokens: old, values } = book.ofEpoch(1)
  const [first, second, third] = stage.nodes.map((node) => stage.client(CLINIC, [node]))
  const resolved = await first.detokenize(old)
  const { tokens: fresh, epoch } = await second.retokenize(old)
  const again = await third.tokenize(values)
  print(
    table(
      [['epoch 1', `epoch ${epoch}`], ...old.slice(0, 3).map((token, i) => [token, String(fresh[i])])],
      '  ',
    ),
  )
  print(`  … ${counted(old.length, 'token')}\n`)
  claim(isDeepStrictEqual(resolved.values, values), 'all tokens of epoch 1 resolve: readers need not hurry')
  claim(isDeepStrictEqual(fresh, again.tokens), 'POST /retokenize gives the tokens that the values have now')
  check(
    fresh.every((token) => token?.startsWith('tok_2_')),
    'the new tokens are of epoch 2',
  )
  const { epochs } = await third.epochs()
  print(
    table(
      [
        ['epoch', 'tokens', 'opened', 'closed'],
        ...epochs.map((each) => [
          String(each.epoch),
          String(each.tokens),
          each.opened_at,
          each.closed_at ?? '-',
        ]),
      ],
      '  ',
    ),
  )
  const [one, two] = epochs
  claim(one.closed_at === two.opened_at && two.closed_at === null, 'epoch 2 begins where epoch 1 ends')
}

/** The chapters of secrets: a .env file, and history. */
async function secrets(stage: Stage): Promise<void> {
  const project = new Project(stage)
  await stage.chapter('A .env file keeps references, and the vault the values')
  await encrypt(project)
  await run(project)
  await stage.chapter('A secret has a history')
  await update(project)
  const [, node] = stage.nodes
  const client = stage.client(SHOP, [node])
  const { names } = await client.secretNames()
  const name = names.find((each) => each.endsWith('PASSWORD'))
  assert(name !== undefined, 'the password is a secret')
  const { versions } = await client.secretHistory(name)
  const [one, two] = versions
  claim(
    versions.length === 2 && one.valid_to === two.valid_from && two.valid_to === null,
    'the versions follow each other without a gap',
  )
}
