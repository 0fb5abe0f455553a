// Arbitrary, cut and damaged bytes against the codecs (codecs.ts).
import { CODECS } from './codecs.ts'
import { testAll } from './target.ts'

testAll(CODECS)
