// The HTTP servers of one node that say how its Services are: one for each health check node port, one with `/healthz` and
// `/livez` on port 10256, and the metrics on port 10249 (kube-proxy's own ports). What they answer is computed in the files beside
// this one; here are the sockets, opened where the node is.

import type { Clock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { requestPath } from "../../base/request-path.ts";
import type { Collection } from "../../collections/collection.ts";
import type { ServicePort } from "../../services/service-table.ts";
import { isHealthy, type ProxierProgress, proxierAnswer } from "./proxier-health.ts";
import { type HealthAnswer, healthAnswer, type ServiceHealth, serviceHealths } from "./service-health.ts";

export interface HealthServersOptions {
  readonly table: Collection<ServicePort>;
  /** How the node's rules stand, one of each family. */
  readonly progress: () => readonly ProxierProgress[];
  /** False once the node is on its way out. */
  readonly eligible: () => boolean;
  readonly mode: string;
  /** The text of `/metrics`. */
  readonly metrics: (answers: HealthCounts) => string;
  /** Where health check node ports and port 10256 are listened on, and where the metrics are; `::` is both families. */
  readonly addresses: readonly string[];
  readonly metricsAddresses: readonly string[];
  readonly effectivePort: (port: number) => number;
  /** Runs `open` where the sockets belong (inside the node's network namespace). */
  readonly bind: <T>(open: () => T) => T;
  /** A health check node port that cannot be listened on: told once for each message. */
  readonly failed?: (service: ServiceHealth, message: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Answers so far, by status. */
export interface HealthCounts {
  readonly healthz: ReadonlyMap<number, number>;
  readonly livez: ReadonlyMap<number, number>;
}

export const healthzPort = 10256;
export const metricsPort = 10249;

/** How often what could not be listened on is tried again, in milliseconds. */
const retryEvery = 1_000;

type Answer = (path: string) => HealthAnswer | undefined;

interface Wanted {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly answer: Answer;
  readonly failed?: (message: string) => void;
}

export function startHealthServers(options: HealthServersOptions): Disposable {
  const { table, progress, eligible, mode, clock, log } = options;
  const healthz = new Map<number, number>();
  const livez = new Map<number, number>();
  const count = (counts: Map<number, number>, answer: HealthAnswer) => {
    counts.set(answer.status, (counts.get(answer.status) ?? 0) + 1);
    return answer;
  };
  const text = (body: string): HealthAnswer => ({
    status: 200,
    headers: { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" },
    body,
  });
  const own: readonly (readonly [string, Wanted])[] = [
    [
      "healthz",
      {
        addresses: options.addresses,
        port: healthzPort,
        answer(path) {
          if (path === "/healthz") return count(healthz, proxierAnswer(progress(), clock.now(), eligible()));
          if (path === "/livez") return count(livez, proxierAnswer(progress(), clock.now(), undefined));
          return undefined;
        },
      },
    ],
    [
      "metrics",
      {
        addresses: options.metricsAddresses,
        port: metricsPort,
        answer(path) {
          if (path === "/metrics") return text(options.metrics({ healthz, livez }));
          if (path === "/proxyMode") return text(mode);
          if (path === "/healthz") return text("ok");
          return undefined;
        },
      },
    ],
  ];

  /** Rows with a health check node port, by Service: all that a change has to look at. */
  const rows = new Map<string, Map<string, ServicePort>>();
  let services = new Map<string, ServiceHealth>();
  const servers = new Map<string, { readonly at: string; stop(): void }>();
  const complaints = new Map<string, string>();

  function serviceWanted(key: string, health: ServiceHealth): Wanted {
    return {
      addresses: options.addresses,
      port: health.port,
      answer: () => {
        const now = services.get(key);
        return now && healthAnswer(now, isHealthy(progress(), clock.now()));
      },
      failed: (message) => options.failed?.(health, message),
    };
  }

  function serve(hostname: string, { port, answer }: Wanted): Bun.Server<undefined> {
    return Bun.serve({
      hostname,
      port: options.effectivePort(port),
      development: false,
      fetch(request) {
        const found = answer(requestPath(request));
        if (!found) return new Response("404 page not found\n", { status: 404 });
        return new Response(found.body, { status: found.status, headers: found.headers });
      },
    });
  }

  function listen(name: string, wanted: Wanted): void {
    const at = `${wanted.addresses.join(" ")} ${wanted.port}`;
    const before = servers.get(name);
    if (before?.at === at) return;
    before?.stop();
    servers.delete(name);
    const opened: Bun.Server<undefined>[] = [];
    const stop = () => {
      for (const server of opened) void server.stop(true);
    };
    try {
      options.bind(() => {
        for (const address of wanted.addresses) opened.push(serve(address, wanted));
      });
      servers.set(name, { at, stop });
      complaints.delete(name);
    } catch (error) {
      stop();
      const message = messageOf(error);
      if (complaints.get(name) === message) return;
      complaints.set(name, message);
      const { addresses, port } = wanted;
      log.warn("a health server cannot listen", { server: name, addresses, port, message });
      wanted.failed?.(message);
    }
  }

  function listenToAll(): void {
    for (const [name, wanted] of own) listen(name, wanted);
    for (const [key, health] of services) listen(`service ${key}`, serviceWanted(key, health));
  }

  const subscription = table.subscribe(
    (batch) => {
      let changed = false;
      for (const { key, before, after } of batch) {
        if (before?.healthCheckNodePort === undefined && after?.healthCheckNodePort === undefined) continue;
        changed = true;
        const row = (after ?? before)!;
        const name = `${row.namespace}/${row.service}`;
        const ofService = rows.get(name) ?? new Map<string, ServicePort>();
        if (after?.healthCheckNodePort === undefined) ofService.delete(key);
        else ofService.set(key, after);
        if (ofService.size > 0) rows.set(name, ofService);
        else rows.delete(name);
      }
      if (!changed) return;
      services = serviceHealths([...rows.values()].flatMap((one) => [...one.values()]));
      for (const [name, server] of servers) {
        if (!name.startsWith("service ") || services.has(name.slice("service ".length))) continue;
        server.stop();
        servers.delete(name);
        complaints.delete(name);
      }
      listenToAll();
    },
    { replay: true },
  );
  listenToAll();
  const retry = clock.every(retryEvery, () => {
    if (complaints.size > 0) listenToAll();
  });

  return {
    dispose() {
      subscription.dispose();
      retry.dispose();
      for (const server of servers.values()) server.stop();
      servers.clear();
    },
  };
}
