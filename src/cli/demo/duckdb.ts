// coffer demo duckdb: the tables of a clinic, in CSV and in Parquet. Every command shown is executed.
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadDuckDB } from '../../duckdb/package.ts'
import { replaceFile } from '../../files.ts'
import { print } from '../terminal/terminal.ts'
import type { Scenario } from './scenario.ts'
import { shown } from './shown.ts'
import type { Stage } from './stage.ts'
import { claim, nowhereIn } from './story.ts'
import { ENCOUNTERS, LATER_ENCOUNTERS, NUMBERS, PATIENTS } from './tables.ts'

const CLINIC = 'clinic'
const STRANGER = 'stranger'
const HEAD_LINES = 4

export const duckdb: Scenario = {
  about: 'tables in CSV and Parquet: tokenized, joined by SQL, migrated after a rotation, read back',
  nodes: 1,
  owners: [CLINIC, STRANGER],
  play,
  next: `  coffer init ./vault --owner ${CLINIC}
  coffer start --config ./vault/n1.yaml
  coffer tokenize patients.csv --column ssn
  coffer sql -c "SELECT detokenize(ssn) AS ssn FROM 'patients.tokens.csv' LIMIT 3"

docs/duckdb.md has the rest: other programs, warehouses, and pitfalls.`,
}

async function play(stage: Stage): Promise<void> {
  await loadDuckDB() // where DuckDB is not installed, the error names the command of npm
  const tables = new Tables(stage)
  print(`Tables of a clinic in ${tables.dir}, and beside them a vault: one node, two owners.`)
  await stage.start()
  await stage.chapter('Tables go out with tokens in place of values')
  await tokenize(tables)
  await stage.chapter('An analyst joins and counts them: nobody needs a value for that')
  await joinTables(tables)
  await stage.chapter('A rotation: new tokens from now on')
  await rotate(tables)
  await stage.chapter('The tables are migrated: no value leaves the vault')
  await migrate(tables)
  await stage.chapter('A table that no command reaches gets a map from old tokens to new tokens')
  await update(tables)
  await stage.chapter('Who may see values gets them back')
  await lookBack(tables)
  await stage.chapter('No value is on the disk in clear, but in the tables of the clinic')
  nowhereIn(stage.vaultDir, NUMBERS)
}

/** The directory with `clinic/`, the tables with values, and `analyst/`, the tables with tokens. */
export class Tables {
  readonly dir: string
  readonly #stage: Stage

  constructor(stage: Stage) {
    this.#stage = stage
    this.dir = join(stage.dir, 'tables')
    for (const name of ['clinic', 'analyst']) mkdirSync(join(this.dir, name), { recursive: true })
    replaceFile(join(this.dir, 'clinic/patients.csv'), PATIENTS)
    replaceFile(join(this.dir, 'clinic/encounters.csv'), ENCOUNTERS)
    replaceFile(join(this.dir, 'clinic/encounters-2026.csv'), LATER_ENCOUNTERS)
  }

  read(name: string): string {
    return readFileSync(join(this.dir, name), 'utf8')
  }

  showHead(name: string): void {
    print(`  ${name}`)
    for (const line of this.read(name).split('\n', HEAD_LINES)) print(`    ${line}`)
    print('    …\n')
  }

  /** Shows a command and its output, and returns the output. */
  run(args: readonly string[], owner = CLINIC): Promise<string> {
    const comment = owner === CLINIC ? {} : { comment: `with the key of ${owner}` }
    return shown(args, { stage: this.#stage, cwd: this.dir, owner, ...comment })
  }

  sql(statement: string, owner = CLINIC): Promise<string> {
    return this.run(['sql', '-c', statement], owner)
  }
}

/** Rows by city: a join of patients and encounters. */
function byCity(patients: string, encounters: string): string {
  const columns = 'city, count(*) AS encounters, sum(cost) AS cost'
  return `SELECT ${columns} FROM '${patients}' JOIN '${encounters}' USING (ssn) GROUP BY city ORDER BY city`
}

export async function tokenize(tables: Tables): Promise<void> {
  tables.showHead('clinic/patients.csv')
  await tables.sql("COPY (SELECT * FROM 'clinic/encounters.csv') TO 'clinic/encounters.parquet'")
  const named = ['--column', 'ssn', '--column', 'phone']
  await tables.run(['tokenize', 'clinic/patients.csv', ...named, '-o', 'analyst/patients.csv'])
  const file = ['clinic/encounters.parquet', '--column', 'ssn']
  await tables.run(['tokenize', ...file, '-o', 'analyst/encounters.parquet'])
  print('')
  tables.showHead('analyst/patients.csv')
  claim(
    NUMBERS.every((number) => !tables.read('analyst/patients.csv').includes(number)),
    'no value is left in the table',
  )
  const tokens = "SELECT count(*) AS tokens FROM 'analyst/encounters.parquet' WHERE token_epoch(ssn) = 1"
  const rows = ENCOUNTERS.trimEnd().split('\n').length - 1
  claim((await tables.sql(tokens)).includes(`${rows}`), 'every encounter has a token')
}

export async function joinTables(tables: Tables): Promise<void> {
  const found = await tables.sql(byCity('analyst/patients.csv', 'analyst/encounters.parquet'))
  print('')
  const expected = await tables.sql(byCity('clinic/patients.csv', 'clinic/encounters.parquet'))
  claim(found === expected && found.includes('Bern'), 'tokens join as their values do')
  print('\nThe same rows, from tokens and from values, and from CSV and Parquet.')
}

const EPOCHS = `SELECT token_epoch(ssn) AS epoch, count(*) AS encounters FROM`

async function rotate(tables: Tables): Promise<void> {
  await tables.run(['epoch', 'rotate', '--to', '2'])
  await tokenizeLater(tables)
}

/** Encounters after the rotation. */
export async function tokenizeLater(tables: Tables): Promise<void> {
  const file = ['clinic/encounters-2026.csv', '--column', 'ssn']
  await tables.run(['tokenize', ...file, '-o', 'analyst/encounters-2026.csv'])
  const [old, fresh] = ['analyst/encounters.parquet', 'analyst/encounters-2026.csv']
  const both = `(SELECT ssn FROM '${old}' UNION ALL SELECT ssn FROM '${fresh}')`
  const mix = await tables.sql(`${EPOCHS} ${both} GROUP BY epoch ORDER BY epoch`)
  claim(/^ *1 .*\n *2 /m.test(mix), '`token_epoch` tells the epochs')
  const joined = await tables.sql(
    "SELECT count(*) AS joined FROM 'analyst/patients.csv' JOIN 'analyst/encounters-2026.csv' USING (ssn)",
  )
  claim(/^ *0$/m.test(joined), 'tokens of two epochs do not join')
  print('\nOld tokens resolve as before, but the old table of patients does not join the new encounters.')
}

export async function migrate(tables: Tables): Promise<void> {
  const named = ['--column', 'ssn', '--column', 'phone']
  await tables.run(['retokenize', 'analyst/patients.csv', ...named, '-o', 'analyst/patients-2.csv'])
  const file = ['analyst/encounters.parquet', '--column', 'ssn']
  await tables.run(['retokenize', ...file, '-o', 'analyst/encounters-2.parquet'])
  const found = await tables.sql(byCity('analyst/patients-2.csv', 'analyst/encounters-2026.csv'))
  print('')
  const expected = await tables.sql(byCity('clinic/patients.csv', 'clinic/encounters-2026.csv'))
  claim(found === expected && found.includes('Bern'), 'old and new tables join again')
}

async function update(tables: Tables): Promise<void> {
  const create = "CREATE TABLE encounters AS SELECT * FROM 'analyst/encounters.parquet'"
  await tables.run(['sql', 'warehouse.duckdb', '--write', '-c', create])
  await tables.run([
    'sql',
    'warehouse.duckdb',
    '-c',
    "COPY (SELECT DISTINCT ssn FROM encounters) TO 'analyst/old.csv'",
  ])
  await tables.run([
    'retokenize',
    'analyst/old.csv',
    '--column',
    'ssn',
    '--map',
    'new',
    '-o',
    'analyst/map.csv',
  ])
  const found = 'encounters.ssn = m.ssn AND new IS NOT NULL'
  const join = `UPDATE encounters SET ssn = new FROM 'analyst/map.csv' m WHERE ${found}`
  await tables.run(['sql', 'warehouse.duckdb', '--write', '-c', join])
  const epochs = await tables.run(['sql', 'warehouse.duckdb', '-c', `${EPOCHS} encounters GROUP BY epoch`])
  claim(/^ *2 /m.test(epochs) && !/^ *1 /m.test(epochs), 'no token of epoch 1 is left')
}

async function lookBack(tables: Tables): Promise<void> {
  const oldest = "SELECT * FROM 'analyst/patients-2.csv' ORDER BY born LIMIT 3"
  const some = `SELECT detokenize(ssn) AS ssn, born, city FROM (${oldest})`
  const values = await tables.sql(some)
  claim(NUMBERS.filter((number) => values.includes(number)).length === 3, 'a query has the values')
  print('')
  const foreign = await tables.sql(some, STRANGER)
  claim(
    NUMBERS.every((number) => !foreign.includes(number)) && foreign.includes('3 tokens not found'),
    'another owner gets NULL',
  )
  print('')
  const named = ['--column', 'ssn', '--column', 'phone']
  await tables.run(['detokenize', 'analyst/patients-2.csv', ...named, '-o', 'clinic/back.csv'])
  claim(tables.read('clinic/back.csv') === PATIENTS, 'the file is the original, byte for byte')
  print('\nThe file that came back is the original, byte for byte.')
}
