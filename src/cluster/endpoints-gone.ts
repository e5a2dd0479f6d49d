// When nothing sends to a pod any more: the hook that graceful termination waits for between "Terminating" and SIGTERM. Looks
// at the rules of every node and at the endpoints of every proxy.

import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import type { IpFamily } from "../base/ip.ts";
import type { Collection, Index } from "../collections/collection.ts";
import { index } from "../collections/index.ts";
import type { Distribution } from "../distribution/distribution.ts";
import type { Endpoints } from "../model/model.ts";
import type { RulesMeasures } from "../node/rules-measures.ts";
import type { Rules } from "../node/service-rules.ts";
import type { Protocol } from "../services/objects.ts";
import type { ServicePort } from "../services/service-table.ts";

/** Rules that are kept equal to a table: `settled` resolves when what the table says now is in force. */
export interface NodeRules {
  readonly table: Collection<ServicePort>;
  readonly sink: {
    settled(): Promise<void>;
    /** What could not be put in force, in words. */
    problems(): readonly string[];
    /** Why an address and port of a Service are not served on this node; undefined when they are, or when the kernel does it. */
    unserved?(protocol: Protocol, address: string, port: number): string | undefined;
    readonly families: readonly RulesOfFamily[];
    /** Takes other ranges of Service addresses than those that it was made with. */
    serviceCidrs?(ranges: readonly string[]): void;
    dispose(): Promise<void>;
  };
}

/** For metrics and health. */
export interface RulesOfFamily {
  readonly family: IpFamily;
  readonly measures: RulesMeasures;
  /** The rules as they should be; userspace has none. */
  rules?(): Rules;
}

export interface EndpointsGoneOptions {
  readonly nodes: readonly NodeRules[];
  readonly endpoints: Collection<Endpoints>;
  readonly distribution: Distribution;
  readonly clock: Clock;
}

/** A Service whose endpoints all terminate goes on sending to them (KEP-1669), so the wait has an end, in milliseconds. */
const longestWait = 2_000;

/** Resolves when no rule and no proxy sends new connections to `address`, or when there is no use in waiting longer. */
export function endpointsGone({
  nodes,
  endpoints,
  distribution,
  clock,
}: EndpointsGoneOptions): (address: string) => Promise<void> {
  const rows = nodes.map(({ table }) =>
    index(table, "rows by endpoint", (row) => [
      ...new Set([...row.clusterEndpoints, ...row.localEndpoints].map((endpoint) => endpoint.address)),
    ]),
  );
  const backends = index(endpoints, "endpoints by address", (one) => [
    ...new Set(one.endpoints.map(({ address }) => address)),
  ]);
  return async (address) => {
    const named = backends.where(address).map(({ backend }) => backend);
    const uses = () => rows.some((row) => row.where(address).length > 0) || backends.where(address).length > 0;
    const gone = await emptied([...rows, backends], uses, clock);
    if (!gone) return;
    await Promise.all(nodes.map(({ sink }) => sink.settled()));
    const end = new Promise<void>((resolve) => clock.after(longestWait, resolve));
    await Promise.race([distribution.barrier(named.map((name) => ({ type: "endpoints", name }) as const)), end]);
  };
}

/** Whether `uses` became false in time. */
function emptied(indexes: readonly Index<unknown>[], uses: () => boolean, clock: Clock): Promise<boolean> {
  if (!uses()) return Promise.resolve(true);
  return new Promise((resolve) => {
    const parts: Disposable[] = [];
    const finish = (gone: boolean) => {
      for (const part of parts) part.dispose();
      resolve(gone);
    };
    for (const { of } of indexes) parts.push(of.subscribe(() => !uses() && finish(true)));
    parts.push(clock.after(longestWait, () => finish(false)));
  });
}
