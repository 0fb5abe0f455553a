// A disk that loses power: ext4 in a file, mounted over a loop device. `lose` shuts the file system down without flushing
// its log, so that only what was synced is there after the next mount. Needs root, mkfs.ext4, python3 and loop devices.
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, rmdirSync, rmSync, statfsSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../cli/cli.ts'
import { ifInterrupted } from './interrupted.ts'

const MEBIBYTE = 1024 * 1024
const UNMOUNT_MS = 20_000

/**
 * EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH. Refuses a file system that is the root's, or that is on anything but
 * a loop device (major number 7).
 */
const SHUT_DOWN = `
import fcntl, os, struct, sys
at = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
device = os.fstat(at).st_dev
if device == os.stat('/').st_dev or os.major(device) != 7:
    sys.exit('this is not a loop device of its own')
fcntl.ioctl(at, 0x8004587d, struct.pack('I', 2))
`

function run(command: string, ...args: readonly string[]): string | undefined {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? undefined : (error?.message ?? `${command}: ${stderr.trim()}`)
}

function must(command: string, ...args: readonly string[]): void {
  const problem = run(command, ...args)
  if (problem !== undefined) throw new Error(problem)
}

export class Disk {
  readonly at: string
  readonly #image: string
  readonly #interrupted = ifInterrupted(() => this.#detach())

  private constructor(at: string, image: string) {
    this.at = at
    this.#image = image
  }

  /** A new disk at the empty directory, or why this machine cannot have a disk. The image is a sparse file. */
  static make(at: string, image = `${at}.ext4`, mebibytes = 1024): Disk | string {
    const disk = new Disk(at, image)
    closeSync(openSync(disk.#image, 'wx', 0o600))
    truncateSync(disk.#image, mebibytes * MEBIBYTE)
    const python = run('python3', '-c', 'import fcntl')
    const problem = python ?? run('mkfs.ext4', '-q', '-F', '-m', '0', disk.#image) ?? disk.#mount()
    if (problem === undefined) {
      rmdirSync(join(at, 'lost+found'))
      return disk
    }
    disk.remove()
    return problem
  }

  #mount(): string | undefined {
    return run('mount', '-o', 'loop', this.#image, this.at)
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.at)
    return bavail * bsize
  }

  /** Leaves so many bytes free; the bytes are reserved and not written. */
  fill(leave: number): void {
    const bytes = this.freeBytes - leave
    const fault = bytes > 0 ? run('fallocate', '-l', String(bytes), join(this.at, 'filler')) : undefined
    // The node writes meanwhile: a disk that is full before its time is as full as asked for.
    if (fault !== undefined && !fault.includes('No space left')) throw new Error(fault)
  }

  drain(): void {
    rmSync(join(this.at, 'filler'), { force: true })
  }

  /** The power goes: from now on every write and sync fails, and what was not synced is gone. */
  lose(): void {
    must('python3', '-c', SHUT_DOWN, this.at)
  }

  /** Resolves when no process uses the disk any more, and the disk is mounted again, its log replayed. */
  async comeBack(): Promise<void> {
    await this.#unmount()
    must('mount', '-o', 'loop', this.#image, this.at)
  }

  async #unmount(): Promise<void> {
    let problem: string | undefined
    const done = (): boolean => (problem = run('umount', this.at)) === undefined
    await until(`umount of ${this.at}`, done, UNMOUNT_MS).catch((error) => {
      throw new Error(problem, { cause: error })
    })
  }

  /** Detaches the disk, whoever uses the disk, and removes the image. */
  remove(): void {
    this.#interrupted.end()
    this.#detach()
  }

  #detach(): void {
    run('umount', '-l', this.at)
    rmSync(this.#image, { force: true })
  }
}
