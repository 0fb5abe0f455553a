// Preloaded into a test of a scenario and into all processes of the test (NODE_OPTIONS): plants the scenario's bug. The
// name of the scenario is the query of the URL: commands of tests get no variables of Coffer.
import { plant } from './planting.ts'
import { SCENARIOS } from './scenarios.ts'

const name = new URL(import.meta.url).searchParams.get('name') ?? ''
if (!SCENARIOS[name]) throw new Error(`no such scenario: ${name}`)
plant(SCENARIOS[name].changes)
