// Replacing a file, with a file system that fails at every step: the old file is whole, and nothing else
// stays.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { errorCode } from './errors.ts'
import {
  checkReplaceable,
  createFile,
  FileError,
  type FileOperations,
  Replacement,
  replaceFile,
} from './files.ts'

const OLD = 'what was there before, longer than the new content\n'
const NEW = 'the new content\n'

class Folder implements Disposable {
  readonly path = fs.mkdtempSync(join(tmpdir(), 'coffer-files-'))
  readonly file = join(this.path, 'file')

  constructor(old: string | undefined = OLD) {
    if (old !== '') fs.writeFileSync(this.file, old, { mode: 0o640 })
  }

  get names(): string[] {
    return fs.readdirSync(this.path).sort()
  }

  get text(): string {
    return fs.readFileSync(this.file, 'utf8')
  }

  /** The file has this content and the folder nothing else. */
  check(content: string, what = ''): void {
    assert.equal(this.text, content, what)
    assert.deepEqual(this.names, ['file'], what)
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.path, { recursive: true })
  }
}

const modeOf = (path: string): number => fs.statSync(path).mode & 0o7777

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by the test`), { code })
}

type Call = (...args: unknown[]) => unknown

/** The calls of node:fs; `before` is called ahead of each with its name and may throw. */
function watched(before: (name: string, args: readonly unknown[]) => void): FileOperations {
  const calls = Object.entries(fs).filter(([name]) => name.endsWith('Sync')) as [string, Call][]
  const operations = calls.map(([name, call]): [string, Call] => [
    name,
    (...args) => {
      before(name, args)
      return call(...args)
    },
  ])
  // Every call of node:fs is there, under its name.
  return Object.fromEntries(operations) as unknown as FileOperations
}

function refused(work: () => void): FileError {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof FileError, String(error))
    return error
  }
  return assert.fail('nothing was refused')
}

/** The names of the calls of one replacement, in their order. */
function callsOf(folder: Folder): string[] {
  const names: string[] = []
  replaceFile(folder.file, NEW, { operations: watched((name) => names.push(name)) })
  return names
}

test('content, mode and order: the content is durable before the rename, the rename before the return', () => {
  using folder = new Folder()
  const calls = callsOf(folder)
  folder.check(NEW)
  assert.equal(modeOf(folder.file), 0o640)
  const steps = ['writeSync', 'fchmodSync', 'fsyncSync', 'renameSync']
  assert.deepEqual(
    calls.filter((name) => steps.includes(name)),
    ['writeSync', 'fchmodSync', 'fsyncSync', 'renameSync', 'fsyncSync'],
  )
})

/** A disk with room for so many bytes: the write that meets the end takes a part, the next write fails. */
function fullAfter(room: number, code = 'ENOSPC'): FileOperations {
  let left = room
  const writeSync = (file: number, bytes: Uint8Array, offset: number, length: number): number => {
    if (left === 0) throw systemError(code)
    const taken = fs.writeSync(file, bytes, offset, Math.min(left, length))
    left -= taken
    return taken
  }
  return { ...fs, writeSync: writeSync as typeof fs.writeSync }
}

/** What an untouched file keeps; its content is compared by `check`. */
function identityOf(path: string): readonly number[] {
  const { ino, mode, uid, gid, mtimeMs } = fs.statSync(path)
  return [ino, mode, uid, gid, mtimeMs]
}

test('a disk that is full after any number of bytes', () => {
  for (const code of ['ENOSPC', 'EDQUOT', 'EIO']) {
    for (let room = 0; room <= NEW.length; room++) {
      using folder = new Folder()
      const before = identityOf(folder.file)
      const write = (): void => replaceFile(folder.file, NEW, { operations: fullAfter(room, code) })
      if (room === NEW.length) {
        write()
        folder.check(NEW)
        continue
      }
      const { message } = refused(write)
      assert.ok(message.includes(folder.file) && message.includes(code), message)
      folder.check(OLD, `room for ${room} bytes`)
      assert.deepEqual(identityOf(folder.file), before)
    }
  }
})

test('a disk that is full after any number of bytes of a new file, or of a file in parts', () => {
  const parts = [...NEW].map((letter) => Buffer.from(letter))
  for (let room = 0; room < NEW.length; room++) {
    using none = new Folder('')
    refused(() => createFile(none.file, NEW, { operations: fullAfter(room) }))
    refused(() => replaceFile(none.file, NEW, { operations: fullAfter(room) }))
    assert.deepEqual(none.names, [], `room for ${room} bytes`)

    using folder = new Folder()
    const replacement = Replacement.open(folder.file, { operations: fullAfter(room) })
    refused(() => {
      for (const part of parts) replacement.write(part)
    })
    replacement.discard()
    folder.check(OLD, `room for ${room} bytes`)
  }
})

test('a system that writes less than asked', () => {
  for (let most = 1; most < NEW.length; most++) {
    using folder = new Folder()
    const writeSync = (file: number, bytes: Uint8Array, offset: number, length: number): number =>
      fs.writeSync(file, bytes, offset, Math.min(most, length))
    replaceFile(folder.file, NEW, { operations: { ...fs, writeSync: writeSync as typeof fs.writeSync } })
    folder.check(NEW)
  }
})

test('a system that writes nothing, and content that does not read back', () => {
  const writeSync = (): number => 0
  const flipped = (file: number, block: Uint8Array, offset: number, length: number, position: number) => {
    const read = fs.readSync(file, block, offset, length, position)
    block[0] ^= 1
    return read
  }
  const cut = (file: number, block: Uint8Array, offset: number, _length: number, position: number) =>
    position > 0 ? 0 : fs.readSync(file, block, offset, NEW.length - 1, position)
  // A disk that loses the end of a file, or zeroes a file, between write and sync.
  const fsyncOf = (work: (file: number) => void) => (file: number) => {
    if (fs.fstatSync(file).isFile()) work(file)
    fs.fsyncSync(file)
  }
  const truncated = fsyncOf((file) => fs.ftruncateSync(file, NEW.length - 1))
  const zeroed = fsyncOf((file) => fs.writeSync(file, Buffer.alloc(NEW.length), 0, NEW.length, 0))
  const longer = fsyncOf((file) => fs.writeSync(file, '?', NEW.length))
  for (const faulty of [
    { writeSync },
    { readSync: flipped },
    { readSync: cut },
    { fsyncSync: truncated },
    { fsyncSync: zeroed },
    { fsyncSync: longer },
  ] as unknown as Partial<FileOperations>[]) {
    using folder = new Folder()
    const { message } = refused(() => replaceFile(folder.file, NEW, { operations: { ...fs, ...faulty } }))
    assert.ok(message.includes(folder.file), message)
    folder.check(OLD)
  }
})

test('every call fails once: the old file is whole until the rename, and no temporary file stays', () => {
  using first = new Folder()
  const calls = callsOf(first)
  const renamed = calls.indexOf('renameSync')
  assert.ok(renamed > 10, calls.join(' '))
  for (const [failing, name] of calls.entries()) {
    if (name === 'unlinkSync') continue
    using folder = new Folder()
    let count = 0
    const operations = watched(() => {
      if (count++ === failing) throw systemError('EIO')
    })
    const { message } = refused(() => replaceFile(folder.file, NEW, { operations }))
    assert.ok(message.includes(folder.file) && message.includes('EIO'), message)
    folder.check(failing <= renamed ? OLD : NEW, `${name}, call ${failing}`)
  }
})

test('a process that ends before any call: the content is the old or the new one, whole', () => {
  using first = new Folder()
  const calls = callsOf(first)
  for (const last of calls.keys()) {
    using folder = new Folder()
    let count = 0
    // Nothing is cleaned up either: every later call fails.
    const operations = watched(() => {
      if (count++ >= last) throw systemError('EIO')
    })
    refused(() => replaceFile(folder.file, NEW, { operations }))
    assert.equal(folder.text, last <= calls.indexOf('renameSync') ? OLD : NEW)
    replaceFile(folder.file, `${NEW}again`)
    folder.check(`${NEW}again`)
  }
})

test('a temporary name that another process has: left alone, another name is taken', () => {
  using folder = new Folder()
  let foreign: string | undefined
  const operations = watched((name, [path, flags]) => {
    if (name !== 'openSync' || flags === 'r' || foreign !== undefined) return
    foreign = String(path)
    fs.writeFileSync(foreign, 'of another process')
  })
  replaceFile(folder.file, NEW, { operations })
  assert.ok(foreign)
  assert.deepEqual([folder.text, fs.readFileSync(foreign, 'utf8')], [NEW, 'of another process'])
  assert.equal(folder.names.length, 2)
})

test('two replacements at once do not share a temporary file; the last one counts', () => {
  using folder = new Folder()
  const [one, two] = [Replacement.open(folder.file), Replacement.open(folder.file)]
  for (const part of ['a', 'b']) {
    one.write(Buffer.from(`one ${part}\n`))
    two.write(Buffer.from(`two ${part}\n`))
  }
  two.commit()
  assert.equal(folder.text, 'two a\ntwo b\n')
  one.commit()
  folder.check('one a\none b\n')
})

test('what a killed process left goes; what a running process writes stays', () => {
  using folder = new Folder()
  const { pid } = spawnSync('true')
  const killed = `.file.${pid}-0123456789ab.new`
  // A container gives each process of a command the same id.
  const again = `.file.${process.pid}-0123456789ab.new`
  const running = `.file.${process.ppid}-0123456789ab.new`
  for (const name of [killed, again, running, '.file.new', '.files.1-0.new', 'other'])
    fs.writeFileSync(join(folder.path, name), '')
  replaceFile(folder.file, NEW)
  assert.deepEqual(folder.names, ['.file.new', running, '.files.1-0.new', 'file', 'other'].sort())
})

test('mode 0600 while it is written; a mode that is given, and of a new file', () => {
  for (const [mode, old, expected] of [
    [undefined, OLD, 0o640],
    [0o600, OLD, 0o600],
    [0o644, '', 0o644],
    [undefined, '', 0o600],
  ] as const) {
    using folder = new Folder(old)
    const operations = watched((name, [file]) => {
      if (name === 'writeSync') assert.equal(fs.fstatSync(Number(file)).mode & 0o7777, 0o600)
    })
    replaceFile(folder.file, NEW, { operations, ...(mode === undefined ? {} : { mode }) })
    folder.check(NEW)
    assert.equal(modeOf(folder.file), expected)
  }
})

test('owner and group stay', { skip: process.getuid?.() !== 0 }, () => {
  using folder = new Folder()
  fs.chownSync(folder.file, 1234, 2345)
  replaceFile(folder.file, NEW, { mode: 0o600 })
  const { uid, gid } = fs.statSync(folder.file)
  assert.deepEqual([uid, gid, modeOf(folder.file)], [1234, 2345, 0o600])
})

/** A system that says that every file is another user's, and gives nothing away. */
function withoutRights(seen: string[] = []): FileOperations {
  const statSync = (path: string, options: object): fs.Stats | undefined => {
    const stats = fs.statSync(path, { ...options, throwIfNoEntry: false })
    return stats && Object.assign(stats, { uid: stats.uid + 1 })
  }
  const operations = watched((name) => {
    seen.push(name)
    if (name === 'fchownSync') throw systemError('EPERM')
  })
  return { ...operations, statSync: statSync as typeof fs.statSync }
}

test('an owner that cannot be kept: refused before anything is written', () => {
  for (const work of [
    (path: string, operations: FileOperations) => replaceFile(path, NEW, { operations }),
    (path: string, operations: FileOperations) => checkReplaceable(path, { operations }),
  ]) {
    using folder = new Folder()
    const seen: string[] = []
    const { message, hint } = refused(() => work(folder.file, withoutRights(seen)))
    assert.match(message, /file cannot be replaced: its owner and group \(\d+:\d+\) cannot be kept \(EPERM\)/)
    assert.match(hint ?? '', /root/)
    assert.ok(!seen.includes('writeSync'))
    folder.check(OLD)
  }
})

test('a new file like another: its mode, and its owner where the system allows it', () => {
  using folder = new Folder('')
  const like = { mode: 0o100604, uid: 1234, gid: 2345 }
  replaceFile(folder.file, NEW, { like, operations: withoutRights() })
  folder.check(NEW)
  assert.equal(modeOf(folder.file), 0o604)
  if (process.getuid?.() !== 0) return
  fs.rmSync(folder.file)
  replaceFile(folder.file, NEW, { like })
  assert.equal(fs.statSync(folder.file).uid, 1234)
})

test('a symbolic link goes on pointing at its file', () => {
  using folder = new Folder()
  const link = join(folder.path, 'link')
  fs.symlinkSync('file', link)
  replaceFile(link, NEW)
  assert.equal(fs.readlinkSync(link), 'file')
  assert.deepEqual([folder.text, folder.names], [NEW, ['file', 'link']])
})

test('what cannot be replaced: a directory, a link to nothing, a file in no directory', () => {
  using folder = new Folder()
  const [directory, link] = ['directory', 'link'].map((name) => join(folder.path, name))
  fs.mkdirSync(directory)
  fs.symlinkSync('nothing', link)
  assert.match(
    refused(() => replaceFile(directory, NEW)).message,
    /directory cannot be replaced: not a regular/,
  )
  assert.match(refused(() => replaceFile(link, NEW)).message, /link cannot be written: ENOENT/)
  const { message, hint } = refused(() => replaceFile(join(folder.path, 'a', 'b', 'file'), NEW))
  assert.ok(message.includes(`the directory ${join(folder.path, 'a', 'b')} does not exist`), message)
  assert.equal(hint, `create it: mkdir -p ${join(folder.path, 'a', 'b')}`)
  assert.match(refused(() => replaceFile(join(folder.file, 'file'), NEW)).message, /ENOTDIR/)
  assert.deepEqual(folder.names, ['directory', 'file', 'link'])
})

test('a path without the name of a file: refused before anything is written', () => {
  using folder = new Folder()
  const path = join(folder.path, 'new/')
  for (const unnamed of ['', path]) {
    for (const work of [
      () => replaceFile(unnamed, NEW, { operations: watched(() => assert.fail('the disk is left alone')) }),
      () => checkReplaceable(unnamed),
      () => Replacement.open(unnamed),
    ]) {
      const { message, hint } = refused(work)
      assert.deepEqual([message, hint], [`'${unnamed}' names no file`, 'name a file'])
    }
  }
  folder.check(OLD)
})

test('`check` comes last: its error leaves everything as it was', () => {
  using folder = new Folder()
  const fault = new Error('changed meanwhile')
  const check = (): void => {
    assert.equal(folder.names.length, 2, 'the new content is there')
    throw fault
  }
  assert.throws(
    () => replaceFile(folder.file, NEW, { check }),
    (error) => error === fault,
  )
  folder.check(OLD)
})

test('createFile: only where there is none; what failed is removed', () => {
  using folder = new Folder()
  const { cause } = refused(() => createFile(folder.file, NEW))
  assert.equal(errorCode(cause), 'EEXIST')
  folder.check(OLD)
  fs.rmSync(folder.file)
  for (const failing of ['writeSync', 'fsyncSync', 'readSync']) {
    const operations = watched((name) => {
      if (name === failing) throw systemError('EIO')
    })
    refused(() => createFile(folder.file, NEW, { operations }))
    assert.deepEqual(folder.names, [], failing)
  }
  createFile(folder.file, NEW)
  folder.check(NEW)
  assert.equal(modeOf(folder.file), 0o600)
})
