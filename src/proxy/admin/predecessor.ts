// Whether other processes of this proxy are there: those that it takes over from, or workers that outlived the process that started
// them. They are known by their admin sockets, to each of which a connection is kept: it ends with the process, however that ends.

import { readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export interface Predecessors {
  /** At least one of them is still there. */
  readonly present: boolean;
}

/** Those that are there now; to be called before the name of the admin socket is taken. */
export async function predecessorsAt(admin: string): Promise<Predecessors> {
  let open = 0;
  const connect = (unix: string) =>
    Bun.connect({
      unix,
      socket: {
        open() {
          open++;
        },
        close() {
          open--;
        },
        data() {},
      },
    });
  // A path without anybody behind it is what a process leaves that was killed.
  await Promise.allSettled(pathsOf(admin).map(connect));
  return {
    get present() {
      return open > 0;
    },
  };
}

/** Its own, and those of workers. */
function pathsOf(admin: string): string[] {
  const name = basename(admin);
  try {
    return readdirSync(dirname(admin))
      .filter((one) => one === name || (one.startsWith(`${name}.`) && /^\d+$/.test(one.slice(name.length + 1))))
      .map((one) => join(dirname(admin), one));
  } catch {
    return [];
  }
}
