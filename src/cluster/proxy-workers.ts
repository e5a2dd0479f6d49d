// How many processes on the same ports a proxy may be, whichever command is asked for them.

import { UserError } from "../base/errors.ts";

const most = 64;

/** The number in `text`, which `option` of `fairlead COMMAND` was given. Throws a UserError (exit code 2) that names both. */
export function checkProxyWorkers(text: string, option: string, command: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= most) return count;
  throw new UserError(`${option} ${text}: a number from 1 to ${most} is wanted`, {
    exitCode: 2,
    remedy: `See: fairlead ${command} --help`,
  });
}
