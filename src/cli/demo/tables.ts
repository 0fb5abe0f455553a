// The tables of the demo of DuckDB: numbers of nobody, in the columns of a clinic's export.

const PEOPLE = [
  ['1958-02-11', 'Bern'],
  ['1971-09-30', 'Lyon'],
  ['1990-05-02', 'Bern'],
  ['1983-12-19', 'Turin'],
  ['1966-07-07', 'Lyon'],
  ['2001-01-23', 'Turin'],
  ['1949-11-15', 'Bern'],
  ['1995-08-28', 'Lyon'],
] as const
const WARDS = ['cardiology, 2nd floor', 'surgery', 'paediatrics, "the zoo"']
const REASONS = ['check-up', 'fracture, left arm', 'asthma', 'vaccination']

/** Numbers of nobody: social security numbers never begin with 9. */
const SSNS = PEOPLE.map((_, i) => `9${11 + 7 * i}-${40 + i}-${1187 + 613 * i}`)
const PHONES = PEOPLE.map((_, i) => `+1 555 01${20 + i}`)

/** All values to be replaced. */
export const NUMBERS: readonly string[] = [...SSNS, ...PHONES]

export const PATIENTS = csv(
  'ssn,born,city,phone,ward',
  PEOPLE.map(([born, city], i) => [SSNS[i], born, city, PHONES[i], quoted(WARDS[i % 3])].join()),
)

export const ENCOUNTERS = csv('id,ssn,day,cost,reason', encounters(2025, 24))
export const LATER_ENCOUNTERS = csv('id,ssn,day,cost,reason', encounters(2026, 10))

function encounters(year: number, count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const patient = (i * 5 + (i >> 2)) % PEOPLE.length
    const day = `${year}-${String((i % 12) + 1).padStart(2, '0')}-${10 + (i % 18)}`
    const cost = 80 + ((i * 37) % 150)
    return [`E-${year}-${i + 1}`, SSNS[patient], day, cost, quoted(REASONS[i % REASONS.length])].join()
  })
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', '""')}"`
}

function csv(header: string, rows: readonly string[]): string {
  return [header, ...rows, ''].join('\n')
}
