// coffer demo basics: two files of a clinic, tokenized, joined, rotated, restarted.
import { isDeepStrictEqual } from 'node:util'
import type { Coffer, JsonRecord } from '../../client/index.ts'
import { print, table } from '../terminal/terminal.ts'
import { FIELDS, LAB_RESULTS, REGISTRATIONS } from './records.ts'
import type { Scenario } from './scenario.ts'
import type { Stage } from './stage.ts'
import { claim, nowhereIn } from './story.ts'

const CLINIC = 'clinic'
const PHARMACY = 'pharmacy'

/** The value at a dotted path of a record; '' where there is none. */
function at(record: unknown, path: string): string {
  let value: unknown = record
  for (const name of path.split('.')) {
    // Any object may be asked for any member.
    value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  }
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

function show(records: readonly unknown[], paths: readonly string[]): void {
  print(table([paths, ...records.map((record) => paths.map((path) => at(record, path)))], '  '))
}

export const basics: Scenario = {
  about: 'two files of a clinic: tokenized, joined, read back, rotated, restarted',
  nodes: 1,
  owners: [CLINIC, PHARMACY],
  fields: FIELDS,
  play,
  next: `  coffer init ./vault --owner ${CLINIC} ${FIELDS.map((field) => `--field '${field}'`).join(' ')}
  coffer start --config ./vault/n1.yaml
  curl -s http://127.0.0.1:8200/tokenize -H "Authorization: Bearer $COFFER_KEY" \\
       -H 'Content-Type: application/json' -d '{"values":["912-40-1187"]}'
  coffer epoch rotate --to 2

The node documents its API at http://127.0.0.1:8200/docs.`,
}

async function play(stage: Stage): Promise<void> {
  print(`A vault in ${stage.dir}: one node, two owners, tokens for ${FIELDS.join(', ')}.`)
  await stage.start()
  await stage.chapter('Two files of a clinic become safe to share')
  const files = await tokenize(stage.client(CLINIC))
  await stage.chapter('The same patient has the same token: the files still join')
  joinFiles(files)
  await stage.chapter('The holder of the API key gets the records back')
  await lookBack(stage.client(CLINIC), files)
  await stage.chapter('Tokens mean nothing to another owner')
  await otherOwner(stage.client(PHARMACY), files)
  await stage.chapter('A new epoch: new tokens from now on, old tokens still resolve')
  const second = await rotate(stage.client(CLINIC), files)
  await stage.chapter('The node is stopped and started again')
  await restart(stage, files, second)
  await stage.chapter('No value is on the disk in clear')
  nowhereIn(stage.dir, secrets())
}

/** The two files after tokenizing. */
type Files = { readonly registrations: readonly JsonRecord[]; readonly results: readonly JsonRecord[] }

const SSN = 'patient.ssn'
const ssns = (records: readonly unknown[]): string[] => records.map((record) => at(record, SSN))

async function tokenize(clinic: Coffer): Promise<Files> {
  print('registrations, before:')
  show(REGISTRATIONS, ['visit', 'ward', 'patient.name', SSN])
  print('\nlab results:')
  show(LAB_RESULTS, ['sample', SSN])
  const { records: registrations, replaced } = await clinic.tokenizeRecords(REGISTRATIONS)
  const { records: results, replaced: more } = await clinic.tokenizeRecords(LAB_RESULTS)
  print(`\nPOST /tokenize, once for each file: ${replaced + more} values replaced, phone numbers too.`)
  print('\nregistrations, after:')
  show(registrations, ['visit', 'ward', 'patient.name', SSN])
  print('\nlab results:')
  show(results, ['sample', SSN])
  const text = JSON.stringify([registrations, results])
  claim(
    secrets().every((value) => !text.includes(value)),
    'no value is left in the files',
  )
  claim(
    ssns([...registrations, ...results]).every((token) => /^tok_1_[0-9a-hjkmnp-tv-z]{32}$/.test(token)),
    'every value is replaced by a token',
  )
  claim(
    isDeepStrictEqual(
      results.map((record) => record.results),
      LAB_RESULTS.map((record) => record.results),
    ),
    'the rest is unchanged',
  )
  return { registrations, results }
}

/** All values of the configured fields. */
function secrets(): string[] {
  return [...REGISTRATIONS, ...LAB_RESULTS].flatMap(({ patient }) => [
    patient.ssn,
    ...('name' in patient ? [patient.name, ...patient.contacts.map(({ phone }) => phone)] : []),
  ])
}

/** Pairs of visit and sample with equal text in the field. */
function pairs(left: readonly unknown[], right: readonly unknown[]): string[][] {
  return left.flatMap((one) =>
    right
      .filter((two) => at(one, SSN) === at(two, SSN))
      .map((two) => [at(one, SSN), at(one, 'visit'), at(two, 'sample')]),
  )
}

function joinFiles({ registrations, results }: Files): void {
  const joined = pairs(registrations, results)
  print(table([[SSN, 'visit', 'sample'], ...joined], '  '))
  const before = pairs(REGISTRATIONS, LAB_RESULTS)
  const names = (list: readonly string[][]): string[] => list.map(([, visit, sample]) => `${visit} ${sample}`)
  claim(
    before.length === 2 && isDeepStrictEqual(names(joined), names(before)),
    'the same rows join as before',
  )
  print(`\nThe same ${joined.length} rows as with the numbers, and nobody has seen a number.`)
}

async function lookBack(clinic: Coffer, { registrations, results }: Files): Promise<void> {
  const back = await clinic.detokenizeRecords([...registrations, ...results])
  show(back.records.slice(0, 1), ['visit', 'ward', 'patient.name', SSN])
  claim(
    isDeepStrictEqual(back.records, [...REGISTRATIONS, ...LAB_RESULTS]),
    'every record comes back unchanged',
  )
  claim(back.notFound.length === 0, 'every token is found')
  print(`\nPOST /detokenize: all ${back.records.length} records are exactly the original records.`)
}

async function otherOwner(pharmacy: Coffer, { registrations }: Files): Promise<void> {
  const [token] = ssns(registrations)
  const [value] = ssns(REGISTRATIONS)
  const found = await pharmacy.detokenizeOne(token)
  const { tokens } = await pharmacy.tokenize([value])
  print(
    table(
      [
        ['owner', `token of ${value}`, 'resolves for pharmacy'],
        [CLINIC, token, 'not found'],
        [PHARMACY, String(tokens[0]), 'yes'],
      ],
      '  ',
    ),
  )
  claim(found === undefined, 'another owner does not find the token')
  claim(tokens[0] !== token, 'another owner gets another token')
  claim((await pharmacy.detokenizeOne(String(tokens[0]))) === value, 'its own token is found')
  print('\n"Not found" is the answer for foreign, forged and never issued tokens alike: it reveals nothing.')
}

/** Returns the tokens of the second epoch. */
async function rotate(clinic: Coffer, { registrations }: Files): Promise<readonly (string | null)[]> {
  const old = ssns(registrations)
  const values = ssns(REGISTRATIONS)
  const { epoch } = await clinic.rotateEpoch(2)
  const { tokens } = await clinic.tokenize(values)
  print(
    table(
      [[SSN, 'epoch 1', `epoch ${epoch}`], ...values.map((value, i) => [value, old[i], String(tokens[i])])],
      '  ',
    ),
  )
  claim(
    tokens.every((token, i) => token !== old[i] && token?.startsWith('tok_2_')),
    'the new tokens differ',
  )
  const both = await clinic.detokenize([...old, ...tokens])
  claim(isDeepStrictEqual(both.values, [...values, ...values]), 'tokens of both epochs resolve')
  const moved = await clinic.retokenize(old)
  claim(isDeepStrictEqual(moved.tokens, tokens), 'retokenize gives the new tokens for the old ones')
  print('\nPOST /retokenize has turned the first column into the second; no value has left the vault.')
  return tokens
}

async function restart(
  stage: Stage,
  { registrations }: Files,
  second: readonly (string | null)[],
): Promise<void> {
  claim((await stage.stop()) === 0, 'the node ends with exit code 0')
  await stage.start()
  const clinic = stage.client(CLINIC)
  const values = ssns(REGISTRATIONS)
  const { tokens, epoch } = await clinic.tokenize(values)
  claim(epoch === 2 && isDeepStrictEqual(tokens, second), 'the same values have the same tokens')
  const { values: found } = await clinic.detokenize(ssns(registrations))
  claim(isDeepStrictEqual(found, values), 'tokens of the first epoch resolve')
  print(`The same values have the same tokens, in epoch ${epoch}; tokens of epoch 1 resolve as before.`)
}
