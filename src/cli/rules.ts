// `fairlead rules`: what a node's Service rules would be for a file of objects, in the syntax of the kernel's own tools.

import { UserError } from "../base/errors.ts";
import { ipFamily } from "../base/ip.ts";
import { flagsIn, proxyFlags, rulesFlagNames } from "../cluster/proxy-flags.ts";
import { rulesModes, rulesOfFiles } from "../cluster/rules-of-files.ts";
import type { Command, Words } from "./command.ts";
import { print, printError, yellow } from "./terminal.ts";

export const command: Command = {
  name: "rules",
  summary: "Print the kernel rules that a node would have for Services in files",
  usage: `rules --mode ${rulesModes.join("|")} -f FILE|DIR|- [options]`,
  description:
    "Reads Services and EndpointSlices (YAML or JSON; documents, Lists or bare lists), and Nodes and ServiceCIDRs where they are\n" +
    "there, and prints what kube-proxy writes for them: iptables-save text, a table in nft syntax, or ipvsadm-save, ipset and\n" +
    "iptables-save text. Nothing is changed, and no privileges are needed.",
  options: {
    mode: { type: "string", value: rulesModes.join("|"), help: "Whose rules." },
    filename: {
      type: "string",
      short: "f",
      value: "FILE|DIR|-",
      multiple: true,
      help: "The objects; may be given again. - is standard input.",
    },
    node: { type: "string", value: "NAME", help: "The node: its endpoints are local. Default: none is." },
    zone: { type: "string", value: "ZONE", help: "The node's zone, for topology hints. Default: the Node's label." },
    "node-address": {
      type: "string",
      value: "ADDRESS",
      help: "The node's address. Default: the InternalIP of the Node in the files.",
    },
    "service-cidr": {
      type: "string",
      value: "RANGE[,RANGE]",
      help: "The Services' addresses (nftables drops what goes to unused ones). Default: those of ServiceCIDRs in the files.",
    },
    ...Object.fromEntries(rulesFlagNames.map((name) => [name, proxyFlags[name]])),
    nfacct: {
      type: "boolean",
      help: "With the two counters that kube-proxy's iptables mode adds where the kernel has them (xt_nfacct).",
    },
    ipv6: { type: "boolean", help: "The IPv6 rules. Default: IPv4." },
  },
  examples: [
    [
      "fairlead rules --mode nftables -f objects.yaml --node node-1 --cluster-cidr 10.244.0.0/16",
      "The table of node-1",
    ],
    [
      "kubectl get services,endpointslices,nodes -A -o json | fairlead rules --mode iptables -f - --node node-1",
      "What a node of a running cluster should have, to compare with its iptables-save",
    ],
    ["fairlead rules --mode iptables -f objects.yaml --ipv6 | grep shop/cart", "The IPv6 rules of one Service"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  const files = words.texts("filename");
  const mode = words.text("mode");
  if (mode === undefined || files.length === 0 || words.positionals.length > 0) {
    const [word] = words.positionals;
    const what = word === undefined ? "rules needs --mode and -f" : `rules takes no "${word}"`;
    throw new UserError(what, {
      remedy: `For example: fairlead rules --mode ${mode ?? rulesModes[0]} -f ${files[0] ?? word ?? "objects.yaml"}`,
      exitCode: 2,
    });
  }
  const nodeAddress = words.text("node-address");
  if (nodeAddress !== undefined && ipFamily(nodeAddress) === undefined) {
    throw new UserError(`--node-address ${nodeAddress}: not an address`, { exitCode: 2 });
  }
  const node = words.text("node");
  const zone = words.text("zone");
  const serviceCidrs = words.text("service-cidr")?.split(",");
  const { text, warnings } = await rulesOfFiles(files, {
    mode,
    family: words.flag("ipv6") ? 6 : 4,
    nfacct: words.flag("nfacct"),
    flags: flagsIn(words, rulesFlagNames),
    ...(node === undefined ? {} : { node }),
    ...(zone === undefined ? {} : { zone }),
    ...(nodeAddress === undefined ? {} : { nodeAddress }),
    ...(serviceCidrs === undefined ? {} : { serviceCidrs }),
  });
  for (const warning of warnings) printError(yellow(`warning: ${warning}`));
  print(text.trimEnd());
  return 0;
}
