// Bytes that are hardly TLS, or hardly HTTP over TLS (raw.ts).
import { after } from 'node:test'
import { rawTargets } from './raw.ts'
import { startTlsVault } from './running.ts'
import { testAll } from './target.ts'

const vault = await startTlsVault()
after(() => vault[Symbol.asyncDispose]())
testAll(rawTargets(vault, 'TLS'))
