import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeClock } from "../base/clock.ts";
import { type Authority, createAuthority, loadAuthority } from "./authority.ts";
import { isStillGood, keptCertificate, openAuthority } from "./authority-store.ts";

const directory = mkdtempSync(join(tmpdir(), "fl-t-identity-"));
let authority: Authority;

beforeAll(async () => {
  authority = await createAuthority("fairlead test");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function openssl(...args: string[]): string {
  const done = Bun.spawnSync(["openssl", ...args]);
  return done.stdout.toString() + done.stderr.toString();
}

function write(name: string, content: string): string {
  const file = join(directory, name);
  writeFileSync(file, content);
  return file;
}

describe("an authority", () => {
  test("issues server certificates that openssl verifies, for names, wildcards and addresses", async () => {
    const issued = await authority.issueServer(["api.example.com", "*.example.org", "127.0.0.1", "fd00::1"]);
    const ca = write("ca.pem", authority.certificate);
    const leaf = write("server.pem", issued.certificate);
    const verify = (...more: string[]) => openssl("verify", "-x509_strict", "-CAfile", ca, ...more, leaf);
    expect(verify("-purpose", "sslserver", "-verify_hostname", "api.example.com")).toContain("OK");
    expect(verify("-verify_hostname", "a.example.org")).toContain("OK");
    expect(verify("-verify_ip", "127.0.0.1")).toContain("OK");
    expect(verify("-verify_ip", "fd00::1")).toContain("OK");
    expect(verify("-verify_hostname", "other.example.com")).toContain("hostname mismatch");
    expect(verify("-purpose", "sslclient")).toContain("error");
  });

  test("issues client certificates whose user and groups are where the API server looks", async () => {
    const issued = await authority.issueClient("admin", ["system:masters", "ops, people"]);
    const leaf = new X509Certificate(issued.certificate);
    expect(leaf.subject.split("\n")).toEqual(["O=system:masters", expect.stringContaining("people"), "CN=admin"]);
    const check = openssl(
      "verify",
      "-x509_strict",
      "-CAfile",
      write("ca2.pem", authority.certificate),
      "-purpose",
      "sslclient",
      write("client.pem", issued.certificate),
    );
    expect(check).toContain("OK");
  });

  test("issues workload certificates that carry a SPIFFE ID as their only name", async () => {
    const issued = await authority.issueWorkload("spiffe://cluster.local/ns/shop/sa/cart");
    expect(new X509Certificate(issued.certificate).subjectAltName).toBe("URI:spiffe://cluster.local/ns/shop/sa/cart");
    expect(
      openssl("verify", "-CAfile", write("ca3.pem", authority.certificate), write("w.pem", issued.certificate)),
    ).toContain("OK");
    expect(authority.issueWorkload("https://example.com")).rejects.toThrow("no SPIFFE ID");
  });

  test("gives every certificate its own serial, and never outlives itself", async () => {
    const clock = new FakeClock();
    const own = await createAuthority("short", clock);
    const one = new X509Certificate((await own.issueServer(["a"], { lifetime: 1e15 / 1000 })).certificate);
    const two = new X509Certificate((await own.issueServer(["a"])).certificate);
    expect(one.serialNumber).not.toBe(two.serialNumber);
    expect(Date.parse(one.validTo)).toBeLessThanOrEqual(Date.parse(new X509Certificate(own.certificate).validTo));
  });

  test("answers TLS that a client with its certificate trusts", async () => {
    const issued = await authority.issueServer(["localhost", "127.0.0.1"]);
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      tls: { cert: issued.certificate, key: issued.privateKey },
      fetch: () => new Response("hello"),
    });
    try {
      const answer = await fetch(`https://127.0.0.1:${server.port}/`, { tls: { ca: authority.certificate } });
      expect(await answer.text()).toBe("hello");
      expect(fetch(`https://127.0.0.1:${server.port}/`)).rejects.toThrow();
    } finally {
      await server.stop(true);
    }
  });
});

describe("what is kept of an authority", () => {
  test("is reused by a second start, with a key that only its owner reads", async () => {
    const home = join(directory, "home");
    const first = await openAuthority(home, "fairlead");
    const second = await openAuthority(home, "fairlead");
    expect(second.certificate).toBe(first.certificate);
    expect(statSync(join(home, "ca.key")).mode & 0o777).toBe(0o600);
    expect(statSync(home).mode & 0o777).toBe(0o700);
    let issues = 0;
    const issue = (...names: string[]) => {
      issues++;
      return first.issueServer(names);
    };
    const pair = await keptCertificate(home, "api", first, ["a.test"], () => issue("a.test"));
    expect(await keptCertificate(home, "api", second, ["a.test"], () => issue("a.test"))).toEqual(pair);
    expect(issues).toBe(1);
    await keptCertificate(home, "api", second, ["a.test", "b.test"], () => issue("a.test", "b.test"));
    expect(issues).toBe(2);
  });

  test("is issued again in the last third of its life, or by another authority", async () => {
    const clock = new FakeClock();
    const own = await createAuthority("own", clock);
    const other = await createAuthority("own", clock);
    const { certificate } = await own.issueServer(["a", "fd00::1", "10.0.0.1"], { lifetime: 90_000_000 });
    expect(isStillGood(certificate, own, ["a", "fd00::1", "10.0.0.1"], clock.now())).toBe(true);
    expect(isStillGood(certificate, own, ["fd00::2"], clock.now())).toBe(false);
    expect(isStillGood(certificate, other, ["a"], clock.now())).toBe(false);
    expect(isStillGood(certificate, own, ["a"], clock.now() + 70_000_000)).toBe(false);
  });

  test("is refused in words when it is damaged, foreign or out of date", async () => {
    const other = await createAuthority("other");
    expect(() => loadAuthority({ certificate: "x", privateKey: "y" })).toThrow("not PEM");
    expect(() => loadAuthority({ certificate: authority.certificate, privateKey: other.privateKey })).toThrow(
      "does not belong",
    );
    const leaf = await authority.issueServer(["a"]);
    expect(() => loadAuthority(leaf)).toThrow("CA:TRUE");
    expect(() => loadAuthority(authority, new FakeClock(Date.UTC(2100, 0, 1)))).toThrow("expired");
    expect(readFileSync(write("x", ""), "utf8")).toBe("");
    chmodSync(join(directory, "x"), 0o600);
  });
});
