// The published build: dist/ with JavaScript and declarations.
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, rmSync } from 'node:fs'

rmSync('dist', { recursive: true, force: true })
execFileSync('tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
copyFileSync('src/ledger/etcd.proto', 'dist/ledger/etcd.proto')
cpSync('src/cli/log/page', 'dist/cli/log/page', { recursive: true })
chmodSync('dist/cli/main.js', 0o755)
