// Texts that both sides of the API read alike.
import fc from 'fast-check'
import { isSecretName } from '../../src/wire.ts'

export const id = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,63}$/)
export const secretName = fc
  .array(fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/), { minLength: 1, maxLength: 5 })
  .map((parts) => parts.join('/'))
  .filter(isSecretName)
