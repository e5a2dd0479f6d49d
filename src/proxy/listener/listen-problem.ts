// Why a listener could not be opened, and what to do about it, in a sentence: for the status of what asked for it, and for the log.

import { messageOf } from "../../base/errors.ts";
import { addressWithPort } from "../../base/ip.ts";
import type { Listener } from "../../model/model.ts";

/** `error` is what the system said, with its `code` (bind(2)), or an Error of ours. */
export function listenProblem(
  error: unknown,
  { address, port, namespace, transport }: Pick<Listener, "address" | "port" | "namespace" | "transport">,
): string {
  const where = addressWithPort(address, port);
  switch ((error as { code?: string }).code) {
    case "EADDRINUSE":
      return `${where} is in use by another process: end that one, or use another port (ss -l${transport[0]}np "sport = ${port}" shows it)`;
    case "EADDRNOTAVAIL":
      return namespace === undefined
        ? `${address} is no address of this machine: use one that "ip address" shows, or add it`
        : `${address} is no address of network namespace ${namespace}: use one of its own, or add it`;
    case "ENOENT":
      if (namespace !== undefined) return `network namespace ${namespace} does not exist`;
      break;
    case "EACCES":
      return `${where} may not be opened by this user: use a port above net.ipv4.ip_unprivileged_port_start (1023 unless set), or give it CAP_NET_BIND_SERVICE`;
    case "EAFNOSUPPORT":
      return `${where} cannot be opened, because this kernel has no such addresses (IPv6 is off): use one of the other family`;
    case "EMFILE":
    case "ENFILE":
      return `${where} cannot be opened, because too many files are open: raise the limit (ulimit -n), or lower --max-connections`;
  }
  return messageOf(error);
}
