// How many sockets the processes that take over a proxy's ports listen by. The kernel chooses among the sockets of a port (SO_REUSEPORT) by
// their places, and who closes one gives its place to the last: only where at least as many stay as go is there a place that one
// that stays has until the last has gone (`proxy/listener/divert.ts`). So fewer processes listen several times each.

/** Of one process at one port. More are not needed in practice; where they would be, a SYN may have to be said again. */
export const mostSockets = 64;

/** For each of `workers` processes, when `leaving` sockets of a port are going to be closed. */
export function socketsEach(leaving: number, workers: number): number {
  return Math.min(mostSockets, Math.max(1, Math.ceil(leaving / workers)));
}
