// Which endpoint a connection goes to: round robin, or with ClientIP affinity the one that the client had last time, for as long
// as it is there and the client has not been away longer than the timeout.

import type { TableEndpoint } from "../../services/service-table.ts";

/** Clients remembered per Service port; the longest unseen are forgotten first. */
const mostClients = 10_000;

export class Balance {
  #endpoints: readonly TableEndpoint[] = [];
  #next = 0;
  #affinity: number | undefined;
  /** By client address, in the order of their last use. */
  readonly #clients = new Map<string, { readonly endpoint: string; readonly usedAt: number }>();

  /** `affinity` in seconds; undefined for none. */
  set(endpoints: readonly TableEndpoint[], affinity: number | undefined): void {
    this.#endpoints = endpoints;
    this.#affinity = affinity;
    if (affinity === undefined) this.#clients.clear();
  }

  get isEmpty(): boolean {
    return this.#endpoints.length === 0;
  }

  /** `not` names endpoints that just failed. Undefined when there is no other. */
  choose(client: string, now: number, not: ReadonlySet<string> = new Set()): TableEndpoint | undefined {
    const remembered = this.#affinity === undefined ? undefined : this.#clients.get(client);
    if (remembered && now - remembered.usedAt <= this.#affinity! * 1000) {
      const same = this.#endpoints.find((one) => endpointKey(one) === remembered.endpoint);
      if (same && !not.has(remembered.endpoint)) return this.#remember(client, same, now);
    }
    for (let tried = 0; tried < this.#endpoints.length; tried++) {
      const endpoint = this.#endpoints[this.#next++ % this.#endpoints.length]!;
      if (!not.has(endpointKey(endpoint))) return this.#remember(client, endpoint, now);
    }
    return undefined;
  }

  #remember(client: string, endpoint: TableEndpoint, now: number): TableEndpoint {
    if (this.#affinity === undefined) return endpoint;
    this.#clients.delete(client);
    this.#clients.set(client, { endpoint: endpointKey(endpoint), usedAt: now });
    if (this.#clients.size > mostClients) this.#clients.delete(this.#clients.keys().next().value!);
    return endpoint;
  }
}

export function endpointKey(endpoint: { readonly address: string; readonly port: number }): string {
  return `${endpoint.address}:${endpoint.port}`;
}
