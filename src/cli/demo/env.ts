// coffer demo env: the .env file of a project. Every command shown is a command executed.
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { replaceFile } from '../../files.ts'
import { print } from '../terminal/terminal.ts'
import type { Scenario } from './scenario.ts'
import { shown } from './shown.ts'
import type { Stage } from './stage.ts'
import { claim, nowhereIn } from './story.ts'

export const SHOP = 'shop'
const STRANGER = 'stranger'
const PREFIX = 'shop/prod/'

const PASSWORD = "p@ss 'w0rd' #7"
const NEW_PASSWORD = 'correct horse battery staple'
const VALUES: Readonly<Record<string, string>> = {
  DATABASE_URL: 'postgres://shop:x7Kq2mVb@db.internal/shop',
  DATABASE_PASSWORD: PASSWORD,
  STRIPE_KEY: 'sk_live_9fX2bQ7LrT4w',
}
const FILE = `# the shop, production
DATABASE_URL=${VALUES.DATABASE_URL}
DATABASE_PASSWORD="${PASSWORD}"   # ask Ana before you change it

export STRIPE_KEY='${VALUES.STRIPE_KEY}'
`
/** All values of the story. */
export const ENV_VALUES: readonly string[] = [...Object.values(VALUES), NEW_PASSWORD]

/** The program of the project. It prints its passwords, as programs should not. */
const APP = 'console.log(process.env.DATABASE_PASSWORD, "and", process.env.STRIPE_KEY)'

export const env: Scenario = {
  about: 'the .env file of a project: values stored in the vault, references in their place',
  nodes: 1,
  owners: [SHOP, STRANGER],
  play,
  next: `  coffer init ./vault --owner ${SHOP}
  coffer start --config ./vault/n1.yaml
  coffer env encrypt .env --prefix ${PREFIX}
  coffer env run .env -- npm start

\`coffer env --help\` explains the rest.`,
}

async function play(stage: Stage): Promise<void> {
  const project = new Project(stage)
  print(`A project in ${project.dir}, and beside it a vault: one node, two owners.`)
  await stage.start()
  await stage.chapter('The values of a .env file become secrets')
  await encrypt(project)
  await stage.chapter('A program gets the values in its environment, and nowhere else')
  await run(project)
  await stage.chapter('A password changes; the file does not')
  await update(project)
  await stage.chapter('A conflict is refused, and nothing is half done')
  await refuse(project)
  await stage.chapter('No value is on the disk in clear')
  nowhereIn(stage.dir, ENV_VALUES)
}

/** The directory of the project, for files and commands. */
export class Project {
  readonly dir: string
  readonly #stage: Stage

  constructor(stage: Stage) {
    this.#stage = stage
    this.dir = join(stage.dir, 'project')
    mkdirSync(this.dir)
    this.write(FILE)
    replaceFile(join(this.dir, 'app.mjs'), APP)
  }

  write(text: string): void {
    replaceFile(join(this.dir, '.env'), text)
  }

  /** The .env file. */
  read(): string {
    return readFileSync(join(this.dir, '.env'), 'utf8')
  }

  /** Shows a command and its output, and returns the output. `code`: the expected exit code. */
  async run(
    args: readonly string[],
    { owner = SHOP, code = 0, input = '' }: { owner?: string; code?: number; input?: string } = {},
  ): Promise<string> {
    const comment = owner === SHOP ? {} : { comment: `with the key of ${owner}` }
    return shown(args, { stage: this.#stage, cwd: this.dir, owner, code, input, ...comment })
  }

  show(): void {
    for (const line of this.read().trimEnd().split('\n')) print(`    ${line}`)
  }
}

export async function encrypt(project: Project): Promise<void> {
  print('  .env, before:')
  project.show()
  print('')
  await project.run(['env', 'encrypt', '.env', '--prefix', PREFIX])
  print('\n  .env, after, ready to be committed:')
  project.show()
  const expected = Object.entries(VALUES).reduce(
    (text, [key, value]) => text.replace(value, () => `coffer://${PREFIX}${key}`),
    FILE,
  )
  claim(project.read() === expected, 'references replace the values, and nothing else has changed')
  print('\nComments, quotes and blank lines are unchanged; the values are in the vault.')
}

export async function run(project: Project): Promise<void> {
  const output = await project.run(['env', 'run', '.env', '--', 'node', 'app.mjs'])
  claim(output === `${PASSWORD} and ${VALUES.STRIPE_KEY}\n`, 'the program gets the original values')
  print('\nNo file and no argument has the values.')
}

export async function update(project: Project): Promise<void> {
  const before = project.read()
  const name = `${PREFIX}DATABASE_PASSWORD`
  await project.run(['secret', 'update', name, '--value-from', '-'], { input: NEW_PASSWORD })
  const now = await project.run(['env', 'run', '.env', '--', 'node', 'app.mjs'])
  claim(now.startsWith(`${NEW_PASSWORD} and `), 'the program gets the new value')
  const history = await project.run(['secret', 'history', name])
  const first = /^ *1 +(\S+)/m.exec(history)?.[1] ?? ''
  const then = await project.run(['env', 'run', '.env', '--at', first, '--', 'node', 'app.mjs'])
  claim(then.startsWith(`${PASSWORD} and `), 'the values of an earlier instant are still there')
  claim(project.read() === before, 'the file is unchanged')
  print("\nEvery version has the time from which it is valid: yesterday's run can be repeated.")
}

async function refuse(project: Project): Promise<void> {
  const references = project.read()
  const clash = `SMTP_HOST=mail.internal\nSTRIPE_KEY=another\n`
  project.write(clash)
  print('  .env, written by somebody who does not know about the vault:')
  project.show()
  print('')
  const exists = await project.run(['env', 'encrypt', '.env', '--prefix', PREFIX], { code: 1 })
  claim(exists.includes(`${PREFIX}STRIPE_KEY`), 'the secret that exists is named')
  claim(project.read() === clash, 'the file is unchanged')
  const names = await project.run(['secret', 'list', PREFIX])
  const expected = Object.keys(VALUES).map((key) => `${PREFIX}${key}`)
  claim(isDeepStrictEqual(names.trim().split('\n'), expected.sort()), 'no other secret was created')
  project.write(references)
  print('')
  const foreign = await project.run(['env', 'expand', '.env'], { owner: STRANGER, code: 1 })
  claim(
    Object.keys(VALUES).every((key) => foreign.includes(key)),
    'another owner finds no secret',
  )
  print("\nOne existing name, and no secret is created. Another owner's key finds no secret at all.")
}
