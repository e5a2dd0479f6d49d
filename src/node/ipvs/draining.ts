// Real servers that were taken out of use while they had connections: their weight is 0, so that nothing new reaches them, and
// they go when their connections have ended (pkg/proxy/ipvs/graceful_termination.go). Only the bookkeeping; `ipvs.ts` runs tools.

import { realServerOf } from "./difference.ts";
import type { RealServerLoad } from "./save.ts";

/** Real servers by virtual server (`-t 10.96.0.1:80`). */
export class Draining {
  #reals = new Map<string, Set<string>>();

  get size(): number {
    let size = 0;
    for (const reals of this.#reals.values()) size += reals.size;
    return size;
  }

  /** Takes over what the kernel says. */
  set(found: ReadonlyMap<string, ReadonlySet<string>>): void {
    this.#reals = new Map([...found].map(([server, reals]) => [server, new Set(reals)]));
  }

  /**
   * Passes the lines of an `ipvsadm -R` text on and remembers what they do. A real server that still drains and is wanted again
   * is in the kernel already: adding it (`-a`) becomes giving it its weight back (`-e`).
   */
  follow(text: string): string {
    return text
      .split("\n")
      .map((line) => this.#followLine(line))
      .join("\n");
  }

  #followLine(line: string): string {
    const [verb, flag, address, ...rest] = line.split(" ");
    if (flag === undefined || address === undefined) return line;
    const server = `${flag} ${address}`;
    const real = realServerOf(rest.join(" "));
    const known = this.#reals.get(server);
    if (verb === "-D") this.#reals.delete(server);
    else if (verb === "-d") this.#forget(server, real);
    else if (verb === "-e" && rest.join(" ").endsWith("-w 0")) this.#reals.set(server, (known ?? new Set()).add(real));
    else if (verb === "-e") this.#forget(server, real);
    else if (verb === "-a" && known?.has(real)) {
      this.#forget(server, real);
      return `-e${line.slice(2)}`;
    }
    return line;
  }

  #forget(server: string, real: string): void {
    const reals = this.#reals.get(server);
    reals?.delete(real);
    if (reals?.size === 0) this.#reals.delete(server);
  }

  /** What takes away those without connections, as an `ipvsadm -R` text; those that the kernel no longer has are forgotten. */
  finished(loads: readonly RealServerLoad[]): string {
    const now = new Map(loads.map((load) => [`${load.server} ${load.real}`, load]));
    const out: string[] = [];
    for (const [server, reals] of [...this.#reals]) {
      for (const real of [...reals]) {
        const load = now.get(`${server} ${real}`);
        if (load && load.connections > 0 && load.weight === 0) continue;
        if (load?.weight === 0) out.push(`-d ${server} -r ${real}\n`);
        this.#forget(server, real);
      }
    }
    return out.join("");
  }
}
