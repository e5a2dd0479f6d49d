// Listening for connections to addresses that are not this machine's (IP_TRANSPARENT, the kernel's Documentation/networking/tproxy.rst):
// rules of TPROXY, or local routes, deliver them here with their addresses as they are. Of TCP: datagrams are taken in
// `udp/taken.ts`.

import { UserError } from "../../base/errors.ts";
import { ipFamily } from "../../base/ip.ts";
import { makeTransparent } from "../upstream/original-source.ts";

/** Of a socket that listens. Throws a UserError when this process may not, or cannot. */
export function listenTransparently(fd: number | undefined, address: string): void {
  if (fd === undefined || !makeTransparent(fd, ipFamily(address) ?? 4))
    throw new UserError("a transparent listener needs CAP_NET_ADMIN (or root)");
}
