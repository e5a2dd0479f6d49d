// A whole DNS server: sockets, forwarding, metrics and configuration around a table of names that somebody else fills. The
// process of a stack (`process.ts`) and `fairlead dns` are both this.

import type { Clock } from "../base/clock.ts";
import { type AsyncDisposable, disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { clientsWithin } from "./clients.ts";
import type { DnsConfig } from "./config.ts";
import { createForwarder, type Forwarder, routedForwarder } from "./forwarder.ts";
import { DnsMetrics } from "./metrics.ts";
import { serveMetrics } from "./metrics-server.ts";
import { type Answering, type DnsServer, startDnsServer } from "./server.ts";
import { hostResolvers } from "./upstreams.ts";
import { viewAs, type ZoneTable } from "./zone-table.ts";

export interface DnsServiceOptions {
  readonly table: ZoneTable;
  readonly config: DnsConfig;
  /** Literal addresses, at least one. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** Where metrics and health are served; nowhere unless given. 0 takes a free port. */
  readonly metricsPort?: number;
  /** Lets another process of ours listen there, too (SO_REUSEPORT): the next one, before this one goes. */
  readonly shared?: boolean;
  /** Ranges of clients whose questions about names of others are taken; everybody's when empty. */
  readonly clients: readonly string[];
  /** Addresses that lead to this server, beside its own: never asked, whatever the host's resolv.conf says. */
  readonly ownAddresses?: readonly string[];
  readonly bind?: <T>(open: () => T) => T;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface DnsService extends AsyncDisposable {
  readonly port: number;
  readonly metricsPort: number | undefined;
  readonly metrics: DnsMetrics;
  configure(config: DnsConfig): void;
}

/** Opens the sockets. Rejects with a UserError when the address or port cannot be had. */
export async function startDnsService(options: DnsServiceOptions): Promise<DnsService> {
  const { table, addresses, log, clock, bind = <T>(open: () => T) => open(), shared = false } = options;
  const address = addresses[0]!;
  const allows = options.clients.length > 0 ? clientsWithin(options.clients) : undefined;
  let metrics = new DnsMetrics(options.config.zones, address, options.port);
  let config = options.config;
  let answering: Answering;

  const server: DnsServer = await (async () => {
    setUp();
    return startDnsServer({ answering: () => answering, addresses, port: options.port, bind, shared, log });
  })();

  function setUp(): void {
    if (config.zones.length + 1 !== metrics.zoneCount) metrics = new DnsMetrics(config.zones, address, options.port);
    const forwarder = forwarderOf(config);
    answering = {
      names: table,
      aliases: config.zones.slice(1).map((zone) => viewAs(table, zone)),
      ...(forwarder ? { forwarder } : {}),
      ...(allows ? { allows } : {}),
      autopath: config.autopath,
      metrics,
      log,
    };
  }

  function forwarderOf({ forward, stubDomains, cache }: DnsConfig): Forwarder | undefined {
    const observe = {
      cached: (kind: "success" | "denial" | "miss" | "prefetch") => metrics.cached(kind),
      asked: (to: string, rcode: number | undefined, seconds: number) => metrics.asked(to, rcode, seconds),
      rejected: () => metrics.rejected(),
    };
    const make = (upstreams: Parameters<typeof createForwarder>[0]["upstreams"]) =>
      createForwarder({ upstreams, cache, clock, observe });
    const stubs = stubDomains.map(({ domain, upstreams }) => ({ domain, forwarder: make(upstreams) }));
    const otherwise =
      forward.to === "nobody"
        ? undefined
        : make(
            forward.to === "host" ? hostResolvers([...addresses, ...(options.ownAddresses ?? [])]) : forward.upstreams,
          );
    return otherwise || stubs.length > 0 ? routedForwarder(stubs, otherwise) : undefined;
  }

  const gauges = {
    cacheEntries: () => answering.forwarder?.sizes() ?? { success: 0, denial: 0 },
    services: () => table.size,
  };
  const web = openMetrics();

  /** DNS goes on without its metrics: the port may be a pod's that lives on the node's network. */
  function openMetrics() {
    const port = options.metricsPort;
    if (port === undefined) return undefined;
    try {
      const text = () => metrics.text(gauges);
      return bind(() => serveMetrics({ addresses, port, shared, text, ready: () => table.synced }));
    } catch (error) {
      log.error("no metrics are served", { address, port, error: messageOf(error) });
      return undefined;
    }
  }

  return {
    port: server.port,
    metricsPort: web?.port,
    get metrics() {
      return metrics;
    },
    configure(next) {
      const before = answering.forwarder;
      config = next;
      setUp();
      table.configure({ zone: next.zones[0]!, nameservers: table.nameservers, ttl: next.ttl, pods: next.pods });
      before?.dispose();
      metrics.reloaded(true);
    },
    async dispose() {
      web?.dispose();
      disposable(() => answering.forwarder?.dispose()).dispose();
      await server.dispose();
    },
  };
}
