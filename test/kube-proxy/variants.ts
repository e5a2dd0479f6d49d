// kube-proxy's flags to compare with, and what rules are ours for the same.

import type { KubeObject } from "../../src/api/object.ts";
import type { ProxyFlagTexts } from "../../src/cluster/proxy-flags.ts";
import { rulesOfFiles } from "../../src/cluster/rules-of-files.ts";
import { clusterCidrs, node } from "./objects.ts";

export interface Variant {
  readonly name: string;
  readonly mode: "iptables" | "nftables";
  readonly flags: ProxyFlagTexts;
}

const cidr = { "cluster-cidr": clusterCidrs.join(",") } as const;

/** The first of each mode is recorded with all objects, the others with a few. */
export const variants: readonly Variant[] = [
  { name: "iptables", mode: "iptables", flags: cidr },
  { name: "nftables", mode: "nftables", flags: cidr },
  ...(["iptables", "nftables"] as const).flatMap((mode): Variant[] => [
    { name: `${mode}-masquerade-all`, mode, flags: { ...cidr, "masquerade-all": "true" } },
    { name: `${mode}-no-detector`, mode, flags: {} },
    { name: `${mode}-node-cidr`, mode, flags: { "detect-local-mode": "NodeCIDR" } },
    {
      name: `${mode}-bridge`,
      mode,
      flags: { "detect-local-mode": "BridgeInterface", "pod-bridge-interface": "cbr0" },
    },
    {
      name: `${mode}-prefix`,
      mode,
      flags: { "detect-local-mode": "InterfaceNamePrefix", "pod-interface-name-prefix": "veth" },
    },
    { name: `${mode}-primary`, mode, flags: { ...cidr, "nodeport-addresses": "primary" } },
    { name: `${mode}-addresses`, mode, flags: { ...cidr, "nodeport-addresses": "192.168.0.0/24,127.0.0.0/8" } },
    { name: `${mode}-all-addresses`, mode, flags: { ...cidr, "nodeport-addresses": "0.0.0.0/0,::/0" } },
    { name: `${mode}-liberal`, mode, flags: { ...cidr, "conntrack-tcp-be-liberal": "true" } },
  ]),
  { name: "iptables-bit", mode: "iptables", flags: { ...cidr, "iptables-masquerade-bit": "15" } },
  { name: "iptables-no-localhost", mode: "iptables", flags: { ...cidr, "iptables-localhost-nodeports": "false" } },
  {
    name: "iptables-no-localhost-addresses",
    mode: "iptables",
    flags: { ...cidr, "iptables-localhost-nodeports": "false", "nodeport-addresses": "192.168.0.0/24,127.0.0.0/8" },
  },
];

/** As words of kube-proxy's command line. */
export function words({ flags }: Variant): string[] {
  return Object.entries(flags).map(([name, text]) => `--${name}=${text}`);
}

/** What Fairlead would write. */
export async function ourRules(variant: Variant, family: 4 | 6, objects: readonly KubeObject[]): Promise<string> {
  const request = { mode: variant.mode, family, node: node.name, flags: variant.flags, nfacct: true };
  const { text } = await rulesOfFiles(["-"], request, { stdin: async () => JSON.stringify(objects) });
  return text;
}
