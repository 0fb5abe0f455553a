// Damaged and forged bytes against the readers of a node's own files (files.ts).
import { FILES } from './files.ts'
import { testAll } from './target.ts'

testAll(FILES)
