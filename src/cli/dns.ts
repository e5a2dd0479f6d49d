// `fairlead dns`: the cluster DNS server alone.

import { isIP } from "node:net";
import { messageOf, UserError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";
import { startDnsAlone } from "../cluster/dns-alone.ts";
import { defaultConfig } from "../dns/config.ts";
import { forwardOf, parseConfig } from "../dns/config-map.ts";
import type { Command, Words } from "./command.ts";
import { untilInterrupted } from "./interruption.ts";
import { print } from "./terminal.ts";

export const command: Command = {
  name: "dns",
  summary: "Serve the names of a cluster, or of Services in files, over DNS",
  usage: "dns --kubeconfig FILE|-f FILE|DIR|- [--listen ADDRESS:PORT] [options]",
  description:
    "The stack's DNS server alone, over the objects of any Kubernetes API server (it follows them) or of files. The ConfigMap\n" +
    "kube-system/fairlead-dns configures it there, too. It writes nothing, and stays until it is interrupted.",
  options: {
    kubeconfig: { type: "string", value: "FILE", help: "The cluster." },
    filename: {
      type: "string",
      short: "f",
      value: "FILE|DIR|-",
      multiple: true,
      help: "Services, EndpointSlices and Pods in files, in the cluster's place; may be given again.",
    },
    listen: { type: "string", value: "ADDRESS:PORT", help: "UDP and TCP. Default: 127.0.0.1:5353." },
    metrics: { type: "string", value: "PORT", help: "Serve /metrics, /health and /ready there. Default: nowhere." },
    zone: { type: "string", value: "ZONE", help: "Default: cluster.local." },
    upstream: {
      type: "string",
      value: "ADDRESS[,…]|host|none",
      help: "Where names outside of the zone are asked. Default: none.",
    },
    clients: {
      type: "string",
      value: "RANGE[,…]",
      help: "Clients for whom names outside of the zone are asked, beside this machine. Default: nobody else.",
    },
  },
  examples: [
    ["fairlead dns --kubeconfig ~/.kube/config", "A cluster's names on this machine, port 5353"],
    [
      "fairlead dns -f services.yaml --listen 127.0.0.1:53 --upstream host",
      "Names from a file, others from the host's resolvers",
    ],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  const files = words.texts("filename");
  const kubeconfig = words.text("kubeconfig");
  if (files.length > 0 === (kubeconfig !== undefined)) {
    throw wrong("dns needs either --kubeconfig or -f", "For example: fairlead dns --kubeconfig ~/.kube/config");
  }
  const { address, port } = listenOf(words.text("listen") ?? "127.0.0.1:5353");
  const zone = parseConfig({ zones: words.text("zone") ?? "cluster.local" });
  if (zone.problems) throw wrong(`--zone ${words.text("zone")}: ${zone.problems[0]!.message}`);
  const metrics = words.text("metrics");
  const service = await startDnsAlone({
    from: kubeconfig === undefined ? { files } : { kubeconfig },
    address,
    port,
    ...(metrics === undefined ? {} : { metricsPort: portOf(metrics, "--metrics") }),
    config: { ...defaultConfig, zones: zone.config.zones, forward: upstreamOf(words.text("upstream") ?? "none") },
    // The machine itself is always allowed; an empty list would be everybody.
    clients: words.text("clients")?.split(",") ?? ["127.0.0.0/8"],
    log: createLogger((line) => process.stderr.write(`${line}\n`)),
  });
  print(`DNS for ${zone.config.zones[0]} at ${address}, port ${service.port} (UDP and TCP)`);
  await untilInterrupted();
  await service.dispose();
  process.exit(0);
}

function listenOf(text: string): { address: string; port: number } {
  const match = /^\[([^\]]+)\]:(\d+)$/.exec(text) ?? /^([^:]+):(\d+)$/.exec(text);
  const address = match?.[1];
  if (!match || !address || isIP(address) === 0)
    throw wrong(`--listen ${text}: not an address with a port`, "Write it as 127.0.0.1:53 or [::1]:53.");
  return { address, port: portOf(match[2]!, "--listen") };
}

function portOf(text: string, option: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw wrong(`${option} ${text}: no port`, "Write a number from 0 (any that is free) to 65535.");
}

function upstreamOf(text: string) {
  try {
    return forwardOf(text);
  } catch (error) {
    throw wrong(`--upstream ${text}: ${messageOf(error)}`);
  }
}

function wrong(message: string, remedy = "See: fairlead dns --help"): UserError {
  return new UserError(message, { remedy, exitCode: 2 });
}
