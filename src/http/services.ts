// The services behind the calls.
import type { Receipts } from '../secrets/receipts.ts'
import type { SecretService } from '../secrets/secrets.ts'
import type { TokenService } from '../tokens/tokens.ts'

/**
 * Handed in as a function, which throws Problem `not-ready` while the node starts: a call asks for the
 * services after the form of the request has been checked.
 */
export type Services = {
  readonly tokens: Pick<TokenService, 'tokenize' | 'detokenize' | 'retokenize' | 'rotate' | 'epochs'>
  readonly secrets: Pick<SecretService, 'create' | 'update' | 'read' | 'history' | 'names' | 'resolve'>
  readonly receipts: Pick<Receipts, 'begin' | 'successInstead' | 'settle'>
}
