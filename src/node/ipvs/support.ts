// Whether this machine can do ipvs mode, looked at in a network namespace of its own so that nothing is touched (upstream's
// CanUseIPVSProxier tries a virtual server at 198.51.100.0:20000, an address for documentation, RFC 5737).

import type { Run } from "../service-rules.ts";
import { device, type Scheduler } from "./names.ts";

export interface MissingSupport {
  /** One sentence. */
  readonly reason: string;
  readonly remedy: string;
}

const probe = "198.51.100.0:20000";
const other = "use --proxy-mode iptables";

/** What is missing, or undefined when everything is there. `run` starts programs on the host, as root. */
export async function missingIpvsSupport(run: Run, scheduler: Scheduler = "rr"): Promise<MissingSupport | undefined> {
  for (const tool of ["ipvsadm", "ipset", "iptables-restore"]) {
    const { code } = await run(["sh", "-c", `PATH="$PATH:/usr/sbin:/sbin" command -v ${tool}`]);
    if (code === 0) continue;
    const from = tool === "iptables-restore" ? "iptables" : tool;
    return {
      reason: `ipvs mode needs the program ${tool}, which is not installed`,
      remedy: `Install it (Debian: apt-get install ${from}), or ${other}.`,
    };
  }
  const apart = (...argv: string[]) =>
    run(["sh", "-c", 'PATH="$PATH:/usr/sbin:/sbin" exec unshare --net "$@"', "sh", ...argv]);
  if ((await apart("ipvsadm", "-Ln")).code !== 0) {
    return {
      reason: "this kernel has no IP Virtual Server (module ip_vs), which ipvs mode is made of",
      remedy: `Load it (modprobe ip_vs) if the kernel comes with it, or ${other}.`,
    };
  }
  // An unknown scheduler and a missing module are one error to the kernel; an exit code of 0 may still say so in words.
  const scheduled = await apart("ipvsadm", "-A", "-t", probe, "-s", scheduler);
  if (scheduled.code !== 0 || scheduled.stderr.includes("not found")) {
    return {
      reason: `this kernel has no scheduler ${scheduler} for IP Virtual Server (module ip_vs_${scheduler})`,
      remedy: `Load it (modprobe ip_vs_${scheduler}), or ${other}.`,
    };
  }
  for (const type of ["hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "hash:ip", "bitmap:port"]) {
    const range = type === "bitmap:port" ? ["range", "0-65535"] : [];
    if ((await apart("ipset", "create", "probe", type, ...range)).code === 0) continue;
    return {
      reason: `this kernel has no sets of type ${type} (module ip_set_${type.replace(":", "_").replaceAll(",", "")}), which ipvs mode needs`,
      remedy: `Load the module if the kernel comes with it, or ${other}.`,
    };
  }
  if ((await apart("ip", "link", "add", "dev", device, "type", "dummy")).code !== 0) {
    return {
      reason: `this kernel has no dummy devices (module dummy); ipvs mode keeps the Services' addresses on one, ${device}`,
      remedy: `Load the module if the kernel comes with it, or ${other}.`,
    };
  }
  return undefined;
}
