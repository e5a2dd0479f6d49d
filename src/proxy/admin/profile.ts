// A CPU profile of this process, as Chrome's developer tools and speedscope read it (`.cpuprofile`). Made by JavaScriptCore's
// sampling profiler behind `node:inspector`; it costs some per cent of speed while it runs, so it is short, and one at a time.

import inspector from "node:inspector";
import { systemClock } from "../../base/clock.ts";
import { UserError } from "../../base/errors.ts";

/** Seconds. */
export const longestProfile = 60;
let running = false;

/** Resolves with the profile after `seconds`. Rejects with a UserError while another is being made. */
export async function cpuProfile(seconds: number): Promise<unknown> {
  if (running) throw new UserError("a profile is being made already", { remedy: "Ask again when it is done." });
  running = true;
  const session = new inspector.Session();
  try {
    session.connect();
    await post(session, "Profiler.enable");
    await post(session, "Profiler.start");
    await new Promise<void>((resolve) => void systemClock.after(seconds * 1000, resolve));
    return (await post<{ profile: unknown }>(session, "Profiler.stop")).profile;
  } finally {
    session.disconnect();
    running = false;
  }
}

function post<T>(session: inspector.Session, method: string): Promise<T> {
  return new Promise((resolve, reject) => {
    session.post(method, undefined, (error, result) => (error ? reject(error) : resolve(result as T)));
  });
}
