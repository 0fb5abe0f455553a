// The logger that a node hands to its rooms; pino has the same methods. The event log is events/log.ts.

export type Logger = {
  error(fields: object, message: string): void
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
}

const nothing = (): void => undefined

/** Logs nothing. */
export const SILENT: Logger = { error: nothing, warn: nothing, info: nothing }
