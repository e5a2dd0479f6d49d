// Where the proxy's CPU time goes under a load of one of the benchmarks: a CPU profile from its admin socket, kept as
// `fairlead.cpuprofile` here (for Chrome's developer tools or speedscope), and its heaviest functions by self time. Usage: bun
// bench/profile/run.ts [http1|tls|http2|body] [SECONDS] [--bare]; --bare: without access log and traces.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { need, path, withContenders } from "../contenders.ts";
import { h2load, wrk } from "../loads.ts";

const words = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const kind = words[0] ?? "http1";
const seconds = Number(words[1] ?? 5);
const who = process.argv.includes("--bare") ? "bare" : "fairlead";
const backends = { http1: "http1", tls: "http1", http2: "http1", body: "body" } as const;
if (!(kind in backends)) throw new Error(`unknown load ${kind}; there are ${Object.keys(backends).join(", ")}`);
need("wrk", "wrk");
need("h2load", "nghttp2-client");

interface Profile {
  readonly nodes: readonly { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  readonly samples: readonly number[];
}

const origin = [join(import.meta.dir, `../${backends[kind as keyof typeof backends]}/backend.ts`)];
await withContenders({ origin, tls: kind === "tls" || kind === "http2", who: [who] }, async ({ contenders, proxy }) => {
  const ours = contenders[0]!;
  const load = (duration: number) =>
    kind === "http2"
      ? h2load(ours, path, { requests: duration * 10_000, connections: 8, tls: true, more: ["-m10"] })
      : wrk(ours, kind === "body" ? `${path}&bytes=16384` : path, {
          seconds: duration,
          connections: 32,
          tls: kind === "tls",
        });
  await load(2);
  const running = load(seconds + 1);
  const response = await fetch(`http://proxy/profile?seconds=${seconds}`, { unix: proxy.admin, method: "POST" });
  const profile = (await response.json()) as Profile;
  await running;
  writeFileSync(join(import.meta.dir, "fairlead.cpuprofile"), JSON.stringify(profile));
  const self = new Map<string, number>();
  const nodes = new Map(profile.nodes.map((node) => [node.id, node.callFrame]));
  for (const sample of profile.samples) {
    const frame = nodes.get(sample)!;
    const name = `${frame.functionName || "(anonymous)"} ${frame.url.replace(/^.*\/src\//, "src/")}:${frame.lineNumber + 1}`;
    self.set(name, (self.get(name) ?? 0) + 1);
  }
  const total = profile.samples.length;
  for (const [name, samples] of [...self].sort((a, b) => b[1] - a[1]).slice(0, 25))
    console.log(`${((100 * samples) / total).toFixed(1).padStart(5)} %  ${name}`);
});
