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
  run(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${base}.key -out ${base}.crt -days 2 -subj /CN=${name} -addext subjectAltName=${names}`,
  );
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

/** An authority, as clients' certificates are verified by it, and certificates that it issues. */
export function makeAuthority(folder: string, name: string) {
  const base = join(folder, name);
  run(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${base}.key -out ${base}.crt -days 2 -subj /CN=${name}`,
  );
  const certificates = readFileSync(`${base}.crt`, "utf8");
  const fingerprint = createHash("sha256").update(certificates).digest("hex");
  const content = { kind: "authorities", certificates };
  return {
    secret: { name: `secret/test/${name}`, from, fingerprint, content },
    /** Certificate and key of a client, with names as openssl writes them (`URI:spiffe://a/b,DNS:c`). */
    issue(client: string, names: string): { readonly cert: string; readonly key: string } {
      const file = join(folder, client);
      run(
        `openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${file}.key -out ${file}.csr -subj /CN=${client} -addext subjectAltName=${names}`,
      );
      run(
        `openssl x509 -req -in ${file}.csr -CA ${base}.crt -CAkey ${base}.key -out ${file}.crt -days 2 -copy_extensions copy`,
      );
      return { cert: readFileSync(`${file}.crt`, "utf8"), key: readFileSync(`${file}.key`, "utf8") };
    },
  };
}

function run(command: string): void {
  const done = Bun.spawnSync(command.split(" "));
  if (done.exitCode !== 0) throw new Error(done.stderr.toString());
}
