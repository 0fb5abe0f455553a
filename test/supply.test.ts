// What a checkout runs is locked by hash: every package, Node's binary among them.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { test } from 'node:test'
import { Folder } from './cli/cli.ts'

const ROOT = join(import.meta.dirname, '..')
const read = (...names: string[]): string => readFileSync(join(ROOT, ...names), 'utf8')

type Entry = {
  readonly version?: string
  readonly integrity?: string
  readonly resolved?: string
  readonly link?: boolean
  readonly hasInstallScript?: boolean
  readonly os?: unknown
  readonly cpu?: unknown
}
const lock: { packages: Record<string, Entry> } = JSON.parse(read('package-lock.json'))
const manifest = JSON.parse(read('package.json'))
const nodeManifest = JSON.parse(read('tools', 'node', 'package.json'))
/** Directories of the checkout. */
const OWN = ['', 'tools/node']
const PLATFORMS = ['x64', 'arm64']

test('every package of the lock file has a SHA-512, and comes from the registry', () => {
  const packages = Object.entries(lock.packages).filter(([path]) => !OWN.includes(path))
  assert.ok(packages.length > 150)
  for (const [path, { integrity, resolved, link }] of packages) {
    if (link) {
      assert.ok(resolved !== undefined && OWN.includes(resolved), path)
      continue
    }
    assert.match(integrity ?? 'no hash', /^sha512-[A-Za-z0-9+/]{86}==$/, path)
    assert.match(resolved ?? 'https://registry.npmjs.org/', /^https:\/\/registry\.npmjs\.org\//, path)
  }
})

test('the lock file is the one of the manifests: npm resolves nothing anew', () => {
  for (const [path, { dependencies, devDependencies, optionalDependencies }] of [
    ['', manifest],
    ['tools/node', nodeManifest],
  ]) {
    const { dependencies: a, devDependencies: b, optionalDependencies: c } = Object(lock.packages[path])
    assert.deepEqual([a, b, c], [dependencies, devDependencies, optionalDependencies], path)
  }
})

/** Their scripts were read, and fetch no binary: `lmdb` and `msgpackr-extract` compile where none is there. */
const WITH_SCRIPT = ['lmdb', 'msgpackr-extract', 'protobufjs']

test('no other package runs a script when it is installed: a script can fetch what no lock file has', () => {
  const scripts = Object.entries(lock.packages).filter(([, { hasInstallScript }]) => hasInstallScript)
  const names = scripts.map(([path]) => path.replace(/^.*node_modules\//, ''))
  assert.deepEqual([...new Set(names)].sort(), WITH_SCRIPT)
})

test('Node is locked by version and hash for each platform, and runs the checkout', (t) => {
  const names = PLATFORMS.map((cpu) => `node-linux-${cpu}`)
  assert.deepEqual(Object.keys(nodeManifest.optionalDependencies).sort(), [...names].sort())
  for (const [i, name] of names.entries()) {
    const { version, integrity, os, cpu } = lock.packages[`node_modules/${name}`]
    assert.match(version ?? '', /^24\.\d+\.\d+$/)
    assert.equal(nodeManifest.optionalDependencies[name], version)
    assert.match(integrity ?? '', /^sha512-/)
    assert.deepEqual([[os].flat(), [cpu].flat()], [['linux'], [PLATFORMS[i]]])
  }
  const stamp = join(ROOT, 'node_modules', '.coffer-setup')
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== read('package-lock.json'))
    return t.skip('tools/setup.sh has not run since the lock file changed')
  if (process.platform !== 'linux' || !PLATFORMS.includes(process.arch)) return t.skip('no Node is locked')
  const locked = join(ROOT, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node')
  assert.equal(realpathSync(join(ROOT, 'node_modules', '.bin', 'node')), realpathSync(locked))
  return undefined
})

/** A checkout of no packages, on a machine whose npm has no Node for the platform. */
class Elsewhere extends Folder {
  constructor(version: string) {
    super()
    for (const name of ['tools/setup.sh', 'bin/coffer']) {
      mkdirSync(dirname(this.file(name)), { recursive: true })
      copyFileSync(join(ROOT, name), this.file(name))
    }
    writeFileSync(this.file('package-lock.json'), '{}')
    mkdirSync(this.file('src', 'cli'), { recursive: true })
    writeFileSync(this.file('src', 'cli', 'main.ts'), 'console.log("coffer runs")')
    mkdirSync(this.file('path'))
    this.#program('npm', 'mkdir -p node_modules/.bin')
    const [major, minor] = version.split('.')
    const asked = `versions=Object.defineProperty(process,"versions",{value:{node:"${version}"}})`
    this.#program(
      'node',
      `case "$1" in
        --version) echo v${major}.${minor}.0 ;;
        -e) exec '${process.execPath}' -e '${asked};'"$2" ;;
        *) exec '${process.execPath}' "$@" ;;
      esac`,
    )
  }

  #program(name: string, script: string): void {
    writeFileSync(this.file('path', name), `#!/bin/sh\n${script}\n`)
    chmodSync(this.file('path', name), 0o755)
  }

  run() {
    const env = { PATH: [this.file('path'), '/usr/bin', '/bin'].join(delimiter) }
    return spawnSync('sh', [this.file('bin', 'coffer'), 'x'], { env, encoding: 'utf8', cwd: '/' })
  }
}

test('where no Node is locked, that of the PATH runs the checkout, and that is told once', () => {
  using there = new Elsewhere('22.18.0')
  const { status, stdout, stderr } = there.run()
  assert.deepEqual([status, stdout], [0, 'coffer runs\n'], stderr)
  assert.match(
    stderr,
    /no locked Node runs on this machine \(\w+ \w+\): Node v22\.18\.0 of the PATH is used$/m,
  )
  // A link to a Node of another C library is one that does not run.
  writeFileSync(there.file('node_modules', '.bin', 'node'), '#!/none\n', { mode: 0o755 })
  writeFileSync(there.file('package-lock.json'), '{ }')
  assert.deepEqual([there.run().status, there.run().stderr], [0, ''])
})

test('where no Node is locked and that of the PATH is too old, the next step is told, each time', () => {
  using there = new Elsewhere('22.17.9')
  for (let i = 0; i < 2; i++) {
    const { status, stdout, stderr } = there.run()
    assert.deepEqual([status, stdout], [1, ''])
    assert.match(stderr, /v22\.17\.0 is too old: put Node 24 on the PATH \(https:\/\/nodejs\.org\)$/m)
  }
})
