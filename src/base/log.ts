// Structured logging: one line of JSON an event on a stream. Values that are secret carry their own `toJSON` and print
// as [redacted]; this file knows nothing of them.

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface Logger {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** A logger that adds `component` and `fields` to every line. */
  child(component: string, fields?: Readonly<Record<string, unknown>>): Logger;
}

const rank: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

export const logLevels: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/**
 * A logger that hands finished lines (without a newline) to `write`. Lines below the level are dropped unmade; one that may
 * change while the program runs is given as a function.
 */
export function createLogger(
  write: (line: string) => void,
  level: LogLevel | (() => LogLevel) = "info",
  base: Readonly<Record<string, unknown>> = {},
): Logger {
  const at = (lineLevel: LogLevel) => (message: string, fields?: Readonly<Record<string, unknown>>) => {
    if (rank[lineLevel] < rank[typeof level === "function" ? level() : level]) return;
    write(
      JSON.stringify({ time: new Date().toISOString(), level: lineLevel, ...base, message, ...fields }, errorsAsText),
    );
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (component, fields) => createLogger(write, level, { ...base, component, ...fields }),
  };
}

/** Drops every line. */
export const silentLogger: Logger = createLogger(() => {}, "error");

function errorsAsText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
