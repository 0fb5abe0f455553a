// Two files of a clinic, as an export might look: invented people and numbers of nobody (social security
// numbers never begin with 9). Two patients are in both files.

export const FIELDS = ['patient.name', 'patient.ssn', 'patient.contacts[].phone']

export const REGISTRATIONS = [
  {
    visit: 'R-1041',
    ward: 'cardiology',
    patient: {
      name: 'Avery Linden',
      ssn: '912-40-1187',
      born: 1958,
      contacts: [{ kind: 'mobile', phone: '+1 555 0114' }],
    },
  },
  {
    visit: 'R-1042',
    ward: 'oncology',
    patient: {
      name: 'Blake Moreau',
      ssn: '934-77-0052',
      born: 1971,
      contacts: [
        { kind: 'mobile', phone: '+1 555 0127' },
        { kind: 'home', phone: '+1 555 0133' },
      ],
    },
  },
  {
    visit: 'R-1043',
    ward: 'cardiology',
    patient: { name: 'Casey Okafor', ssn: '951-08-6620', born: 1990, contacts: [] },
  },
]

export const LAB_RESULTS = [
  {
    sample: 'L-7703',
    patient: { ssn: '934-77-0052' },
    results: [{ test: 'haemoglobin', value: 13.1, unit: 'g/dL' }],
  },
  {
    sample: 'L-7704',
    patient: { ssn: '912-40-1187' },
    results: [{ test: 'troponin', value: 0.02, unit: 'ng/mL' }],
  },
  {
    sample: 'L-7705',
    patient: { ssn: '977-31-4409' },
    results: [{ test: 'glucose', value: 92, unit: 'mg/dL' }],
  },
]
