// The published build: dist/ with JavaScript and declarations.
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'

rmSync('dist', { recursive: true, force: true })
execFileSync('tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
copyFileSync('src/ledger/etcd.proto', 'dist/ledger/etcd.proto')
const main = 'dist/cli/main.js'
const text = readFileSync(main, 'utf8')
const shebang = '#!/usr/bin/env -S node --disable-warning=ExperimentalWarning\n'
if (!text.startsWith('#!')) writeFileSync(main, shebang + text)
chmodSync(main, 0o755)
