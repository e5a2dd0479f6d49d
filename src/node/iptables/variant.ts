// Which kernel interface the installed `iptables` speaks: nftables (`iptables v1.8.9 (nf_tables)`) or its own, legacy one.

import type { Run } from "../service-rules.ts";

export async function speaksNftables(run: Run): Promise<boolean> {
  const { code, stdout } = await run(["iptables", "--version"]);
  return code === 0 && stdout.includes("nf_tables");
}
