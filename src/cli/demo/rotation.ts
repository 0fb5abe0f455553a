// coffer demo rotation: an epoch ends by a call of the API, while old tokens resolve and are migrated.
import { isDeepStrictEqual } from 'node:util'
import type { Coffer } from '../../client/index.ts'
import { print, table } from '../terminal/terminal.ts'
import type { Scenario } from './scenario.ts'
import type { Stage } from './stage.ts'
import { claim, nowhereIn } from './story.ts'

const CLINIC = 'clinic'
/** Numbers of nobody. */
const VALUES = ['912-40-1187', '934-77-0052', '951-08-6620']

type Tokens = readonly (string | null)[]

export const rotation: Scenario = {
  about: 'an epoch ends by the API: old tokens resolve, and become new tokens',
  nodes: 1,
  owners: [CLINIC],
  play,
  next: `  coffer init ./vault --owner ${CLINIC}
  coffer start --config ./vault/n1.yaml
  coffer epoch rotate --to 2
  coffer retokenize patients.tokens.csv --column ssn`,
}

async function play(stage: Stage): Promise<void> {
  await stage.start()
  const clinic = stage.client(CLINIC)
  await stage.chapter('Tokens of epoch 1')
  const { tokens: old } = await clinic.tokenize(VALUES)
  print(table([['value', 'token'], ...VALUES.map((value, i) => [value, String(old[i])])], '  '))
  claim(
    old.every((token) => token?.startsWith('tok_1_')),
    'every token says epoch 1',
  )
  await stage.chapter('POST /rotate-epoch: new tokens from now on, and old tokens resolve')
  const fresh = await rotate(clinic, old)
  await stage.chapter('POST /retokenize: old tokens become new tokens, and no value leaves the vault')
  await migrate(clinic, old, fresh)
  await stage.chapter('No value is on the disk in clear')
  nowhereIn(stage.dir, VALUES)
}

/** Returns the tokens of the new epoch. */
async function rotate(clinic: Coffer, old: Tokens): Promise<Tokens> {
  const { epoch, rotated } = await clinic.rotateEpoch(2)
  const again = await clinic.rotateEpoch(2)
  const { tokens: fresh } = await clinic.tokenize(VALUES)
  print(table([['epoch 1', 'epoch 2'], ...old.map((token, i) => [String(token), String(fresh[i])])], '  '))
  claim(epoch === 2 && rotated && !again.rotated, 'a repeated rotation changes nothing')
  claim(
    fresh.every((token) => token?.startsWith('tok_2_')),
    'every new token says epoch 2',
  )
  const { values } = await clinic.detokenize([...old, ...fresh])
  claim(isDeepStrictEqual(values, [...VALUES, ...VALUES]), 'tokens of both epochs resolve')
  print('\nBoth columns resolve to the same values: the migration window is open.')
  return fresh
}

async function migrate(clinic: Coffer, old: Tokens, fresh: Tokens): Promise<void> {
  const { tokens, notFound } = await clinic.retokenize(old)
  claim(isDeepStrictEqual(tokens, fresh) && notFound.length === 0, 'every old token has its new token')
  const { active, epochs } = await clinic.epochs()
  const rows = epochs.map(({ epoch, tokens: count, closed_at }) => [
    String(epoch),
    String(count),
    closed_at === null ? 'active' : 'closed',
  ])
  print(table([['epoch', 'tokens', 'state'], ...rows], '  '))
  const states = epochs.map(({ closed_at }) => closed_at === null)
  claim(active === 2 && isDeepStrictEqual(states, [false, true]), 'epoch 1 is closed, epoch 2 is active')
  print(`\nGET /epochs: epoch ${active} is active; tokens of epoch 1 resolve for ever.`)
}
