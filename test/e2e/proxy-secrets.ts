// Certificates and TLS listeners for tests of the proxy. Needs openssl.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { FilterChain, Listener } from "../../src/model/model.ts";
import { from } from "./proxy-harness.ts";

/** A self-signed certificate for DNS names, as it travels; its files are `NAME.crt` and `NAME.key` in the folder. */
export function makeSecret(folder: string, name: string, ...dns: string[]) {
  const base = join(folder, name);
  const names = dns.map((one) => `DNS:${one}`).join(",");
  const made = Bun.spawnSync(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${base}.key -out ${base}.crt -days 2 -subj /CN=${name} -addext subjectAltName=${names}`.split(
      " ",
    ),
  );
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  const certificate = readFileSync(`${base}.crt`, "utf8");
  const privateKey = readFileSync(`${base}.key`, "utf8");
  const fingerprint = createHash("sha256").update(certificate).update(privateKey).digest("hex");
  return { name: `secret/test/${name}`, from, fingerprint, content: { kind: "certificate", certificate, privateKey } };
}

/** A listener named `https` whose chains serve the table `main` with these certificates. */
export function tlsListener(
  port: number,
  ...chains: readonly (readonly [when: FilterChain["when"], ...secrets: readonly { readonly name: string }[]])[]
): Listener {
  return {
    name: "https",
    from,
    scope: "gateway",
    address: "127.0.0.1",
    port,
    transport: "tcp",
    chains: chains.map(([when, ...secrets]) => ({
      from,
      when,
      tls: { certificates: secrets.map(({ name }) => name), alpn: ["h2", "http/1.1"] },
      serve: { routes: "main" },
    })),
  };
}
