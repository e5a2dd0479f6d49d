// Rules of other programs stay through changes of ours, large ones too, while both write at the same time. The variant of iptables
// that speaks nftables takes no lock, so this is about what is written, not about waiting for each other.

import { afterAll, describe, expect, test } from "bun:test";
import { iptables } from "../../src/node/iptables/iptables.ts";
import type { Rules } from "../../src/node/service-rules.ts";
import { port } from "../../src/node/testing/rows.ts";
import { runIn } from "./service-network.ts";
import { isRoot, run as runProgram } from "./stack.ts";

const variants = ["nft", "legacy"] as const;
const services = 400;
const foreignRules = 40;

function plain(rules: Rules): Record<string, readonly string[]> {
  return Object.fromEntries([...rules].filter(([, lines]) => lines.length > 0).sort());
}

describe.each(variants.map((variant) => ({ variant })))("with iptables-$variant", ({ variant }) => {
  const missing = ["ip", `iptables-${variant}`].find(
    (tool) => !Bun.which(tool, { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }),
  );
  const skipped = isRoot ? missing && `${missing} is not installed` : "needs root";
  if (skipped) console.log(`skipped: foreign rules with iptables-${variant}: ${skipped}`);
  const namespace = `fl-t-foreign-${variant}${process.pid}`;
  const inNamespace = runIn(namespace, variant);
  afterAll(async () => {
    if (!skipped) await runProgram(["ip", "netns", "del", namespace]);
  });

  test.skipIf(skipped !== undefined)(
    `rules of others stay while ${services} Services come, change and go`,
    async () => {
      expect((await runProgram(["ip", "netns", "add", namespace])).code).toBe(0);
      const backend = iptables(inNamespace, { family: 4, localDetector: { kind: "cidr", cidr: "10.0.0.0/8" } });
      const renderer = backend.renderer();
      const rows = (endpoint: number) =>
        Array.from({ length: services }, (_, n) => port(n + 1, [endpoint, endpoint + 1], { nodePort: 30_000 + n }));
      const change = async (endpoint: number | undefined, known: Rules) => {
        const before = [...present];
        present = endpoint === undefined ? [] : rows(endpoint);
        const keys = new Map([...before, ...present].map((row) => [row.key, row]));
        renderer.apply(
          [...keys.keys()].map((key) => ({
            key,
            before: before.find((row) => row.key === key),
            after: present.find((row) => row.key === key),
          })),
        );
        await backend.commit(backend.difference(known, renderer.rules));
        expect(plain(await backend.read())).toEqual(plain(renderer.rules));
      };
      let present: ReturnType<typeof rows> = [];

      let ended = false;
      let written = 0;
      const foreign = async () => {
        expect((await inNamespace(["iptables", "-t", "nat", "-w", "20", "-N", "FOREIGN"])).code).toBe(0);
        while (!ended && written < foreignRules) {
          const words = ["-t", "nat", "-w", "20", "-A", "FOREIGN", "-d", `192.0.2.${written + 1}`, "-j", "ACCEPT"];
          const { code, stderr } = await inNamespace(["iptables", ...words]);
          // The kernel tells who comes second that the rules are newer than he knows; he tries again.
          if (code === 0) written++;
          else expect(stderr).toMatch(/Resource temporarily unavailable|try again|Another app/i);
        }
      };
      const other = foreign();
      await change(1, new Map());
      await change(3, await backend.read());
      await change(undefined, await backend.read());
      ended = true;
      await other;
      expect(written).toBeGreaterThan(2);
      const { stdout } = await inNamespace(["iptables-save", "-t", "nat"]);
      expect(stdout.match(/^-A FOREIGN /gm)).toHaveLength(written);
      await backend.remove();
      const after = await inNamespace(["iptables-save"]);
      expect(after.stdout.match(/^-A FOREIGN /gm)).toHaveLength(written);
      expect(after.stdout).not.toContain("KUBE-");
    },
    120_000,
  );
});
