// Errors that a user reads. They say what is wrong, where, and what to do; the CLI prints them without a stack trace.

/** An error meant for the user: `message` names the thing, `remedy` says what to do about it. */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly remedy: string | undefined;
  /** The exit code a command ends with; 1 unless told otherwise, 2 for a wrong use of the command line. */
  readonly exitCode: number;

  constructor(message: string, options: { remedy?: string; exitCode?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.remedy = options.remedy;
    this.exitCode = options.exitCode ?? 1;
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
