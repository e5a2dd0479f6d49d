// A TCP relay from addresses in the stack's network to an address of the host: how pods reach the API server, which listens on the
// host's loopback.

import type { Disposable } from "../base/disposal.ts";
import { relayHandlers } from "../node/userspace/relay.ts";

export interface RelayOptions {
  /** All have the same port. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** Runs `open` where the listener belongs (inside a node's network namespace). */
  readonly bind: <T>(open: () => T) => T;
  readonly to: { readonly address: string; readonly port: number };
}

export function startRelay({ addresses, port, bind, to }: RelayOptions): Disposable {
  const target = { hostname: to.address, port: to.port, key: `${to.address}:${to.port}` };
  // One target: a client that it refuses is reset at once.
  const socket = relayHandlers((_client, failed) => (failed.length === 0 ? target : undefined));
  const listeners = addresses.map((hostname) =>
    bind(() => Bun.listen({ hostname, port, allowHalfOpen: true, socket })),
  );
  return {
    dispose() {
      for (const listener of listeners) listener.stop(true);
    },
  };
}
