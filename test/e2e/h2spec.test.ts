// The conformance tests of h2spec (https://github.com/summerwind/h2spec) against the proxy: generic, http2 and hpack, over h2c
// and over TLS. h2spec is taken from the PATH or built by Go; where there is neither, the tests say that they skip.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { makeSecret, tlsListener } from "./proxy-secrets.ts";

const source = "github.com/summerwind/h2spec/cmd/h2spec@latest";

/** The program, built once and kept for the next run; undefined when it cannot be had. */
function h2spec(): string | undefined {
  const found = Bun.which("h2spec", { PATH: `${process.env["PATH"]}:/usr/local/go/bin:${join(homedir(), "go/bin")}` });
  if (found) return found;
  const kept = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "fairlead-tests");
  const program = join(kept, "h2spec");
  if (existsSync(program)) return program;
  const go = Bun.which("go", { PATH: `${process.env["PATH"]}:/usr/local/go/bin` });
  if (!go) return undefined;
  const built = Bun.spawnSync([go, "install", source], { env: { ...process.env, GOBIN: kept }, timeout: 240_000 });
  return built.exitCode === 0 && existsSync(program) ? program : undefined;
}

const program = h2spec();
if (!program) console.log(`skipped: h2spec is not there and cannot be built (go install ${source})`);

describe.skipIf(!program)("h2spec", () => {
  const proxy = new ProxyUnderTest();
  const folder = mkdtempSync(join(tmpdir(), "fl-t-h2spec-"));
  const plain = freePort();
  const secure = freePort();
  let server: ReturnType<typeof Bun.serve>;

  beforeAll(async () => {
    server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: async (request) => new Response(`${request.method} with ${(await request.bytes()).length} bytes\n`),
    });
    await proxy.start();
    const secret = makeSecret(folder, "h2spec", "localhost");
    const rejected = await proxy.control.update({
      secrets: [secret],
      backends: [backend("one")],
      endpoints: [endpoints("one", server.port!)],
      routeTables: [routeTable([rule("all")])],
      listeners: [plainListener(plain), tlsListener(secure, [{ kind: "tls" }, secret])],
    });
    expect(rejected).toEqual([]);
  });

  afterAll(async () => {
    await proxy.stop();
    server.stop(true);
    rmSync(folder, { recursive: true, force: true });
  });

  for (const [how, port, flags] of [
    ["h2c", plain, []],
    ["TLS", secure, ["-t", "-k"]],
  ] as const) {
    test(`every case over ${how}`, async () => {
      const run = Bun.spawn([program!, "-h", "127.0.0.1", "-p", String(port), "-o", "10", ...flags], {
        stdout: "pipe",
      });
      const text = await new Response(run.stdout).text();
      const [, all, passed, skipped, failed] =
        /(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed/.exec(text)?.map(Number) ?? [];
      if (failed !== 0) console.error(text.slice(text.indexOf("Failures")));
      expect({ skipped, failed }).toEqual({ skipped: 0, failed: 0 });
      expect(passed).toBe(all!);
      expect(all).toBeGreaterThanOrEqual(140);
    }, 120_000);
  }
});
