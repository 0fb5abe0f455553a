// A damaged LMDB file kills the process that reads the file, by a signal that cannot be caught. So a child
// process reads the file first:
//   node check.ts ledger|replica <path>
// Exit 0: whole; 3: damaged, the reason on stderr; death by a signal: damaged.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { verifyLedger } from '../ledger/lmdb-verify.ts'
import { LmdbStore } from './lmdb-store.ts'

const DAMAGED = 3

type FileCheck = { readonly whole: true } | { readonly whole: false; readonly reason: string }

/** Reads the file through in a child process. An absent file is whole. */
export async function checkFile(what: 'ledger' | 'replica', path: string): Promise<FileCheck> {
  if (!existsSync(join(path, 'data.mdb'))) return { whole: true }
  const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), what, path], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let text = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (chunk: string) => {
    text = (text + chunk).slice(-2000)
  })
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (...end) => resolve(end))
  })
  if (code === 0) return { whole: true }
  const last = text.trim().split('\n').at(-1) ?? ''
  return {
    whole: false,
    reason: signal ? `reading the file ended by ${signal}` : last || `the check ended with ${code}`,
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what, path] = process.argv.slice(2)
  try {
    if (what === 'ledger') verifyLedger(path)
    else new LmdbStore(path, true).verify()
    process.exit(0)
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error))
    process.exit(DAMAGED)
  }
}
