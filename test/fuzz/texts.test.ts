// Arbitrary and damaged texts against their readers (texts.ts).
import { testAll } from './target.ts'
import { TEXTS } from './texts.ts'

testAll(TEXTS)
