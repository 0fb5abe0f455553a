// The commands of docs/operating.md run in a shell as they stand there: a node, its vault on three nodes, three nodes on
// one machine, a rolling restart. Only ports are put in. The restore over three machines: three-machines.test.ts.
import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { Folder } from '../cli/cli.ts'
import { blocks, examples } from '../console.ts'
import { Shell } from '../shell.ts'
import { freeCluster } from './cluster.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const BLOCKS = blocks('docs/operating.md', 'console').map((block) =>
  examples(block).map(({ command }) => command),
)

/** The commands of the only block that has the text in one of its commands. */
function commandsWith(text: string): string[] {
  const found = BLOCKS.filter((commands) => commands.some((command) => command.includes(text)))
  assert.equal(found.length, 1, `blocks with ${text}`)
  return found[0]
}

/** A directory with `bin/`, and a shell there in which `coffer` is on the PATH. */
async function shellIn(folder: Folder): Promise<Shell> {
  symlinkSync(join(ROOT, 'bin'), folder.file('bin'))
  const shell = new Shell(folder.path)
  await shell.run(`export PATH="${join(ROOT, 'bin')}${delimiter}$PATH"`)
  return shell
}

test('docs/operating.md: a node is started, and moves to three nodes by a backup', async () => {
  using folder = new Folder()
  const first = await freeCluster()
  const ported = (command: string): string => command.replace(/init (\S+)/, `init $1 --port ${first}`)
  await using shell = await shellIn(folder)
  const [init, start] = commandsWith('start --config ./vault/n1.yaml')
  await shell.run(ported(init))
  await shell.until(`${start} & PID=$!`, /"msg":"ready"/)
  await shell.run('kill $PID; wait $PID')
  try {
    for (const command of commandsWith('init ./cluster')) await shell.run(ported(command))
    const status = await shell.run('coffer cluster status ./cluster')
    assert.equal([...status.matchAll(/^n[123] .* yes +yes /gm)].length, 3, status)
  } finally {
    await shell.run('coffer cluster stop ./cluster || true')
  }
})

test('docs/operating.md: three nodes on one machine, and a rolling restart', async () => {
  using folder = new Folder()
  const first = await freeCluster()
  await using shell = await shellIn(folder)
  const [init, start, status, stop] = commandsWith('init ./vault --nodes 3')
  try {
    await shell.run(init.replace('--nodes 3', `--nodes 3 --port ${first}`))
    await shell.run(start)
    const shown = await shell.run(status)
    assert.match(shown, /^node +pid +member pid +ready +quorum +leader +revision +lag$/m)
    assert.equal([...shown.matchAll(/^n[123] +\d+ +\d+ +yes +yes +n[123] +\d+ +\d+$/gm)].length, 3, shown)
    for (const command of commandsWith('kill $(cat vault/run/n1.pid)')) await shell.run(command)
  } finally {
    await shell.run(stop)
  }
})
