// The entry of a stack's DNS process: `bun dns-main.ts --control SOCKET --address A … [--netns PATH]`. It runs on the host, so that
// it reaches the host's own resolvers (which may listen on the host's loopback only), with its listening sockets in the first
// node's network namespace. Logs to stderr; exit 1 when it cannot listen, 2 for a wrong command line.

import { messageOf, UserError } from "../base/errors.ts";
import { inNetns } from "../base/setns.ts";
import { dnsArguments, runDnsProcess } from "../dns/process.ts";
import { stopReceiving } from "../node/netns/quiet-udp.ts";

try {
  const options = dnsArguments(process.argv.slice(2));
  await runDnsProcess(options, { bind: (open) => inNetns(options.netns, open), stopReceiving });
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exit(error instanceof UserError ? error.exitCode : 1);
}
