// The log of a node, as its rooms are handed it: pino has this form. Events (events/log.ts) are another thing.

export type Logger = {
  error(fields: object, message: string): void
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
}

const nothing = (): void => undefined

/** Logs nothing. */
export const SILENT: Logger = { error: nothing, warn: nothing, info: nothing }
