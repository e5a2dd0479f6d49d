// An API server for tests: a store in a temporary folder, a throwaway authority (openssl), and kubeconfigs for an
// administrator. Run as a program it serves until it is ended: `bun test/e2e/api-stack.ts FOLDER`.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtinScheme } from "../../src/api/scheme.ts";
import { startApiServer } from "../../src/apiserver/api-server.ts";
import type { Token } from "../../src/apiserver/identity.ts";
import type { PodLogs } from "../../src/apiserver/pod-logs.ts";
import { createLogger } from "../../src/base/log.ts";
import { serviceAdmission } from "../../src/services/allocation.ts";
import type { Admission } from "../../src/store/admission.ts";
import { openSqliteStore, type SqliteStore } from "../../src/store/sqlite/sqlite-store.ts";

export interface ApiStack {
  readonly folder: string;
  readonly store: SqliteStore;
  readonly url: string;
  /** Of a user in system:masters. */
  readonly kubeconfig: string;
  readonly ca: string;
  /** Makes a client certificate; returns the paths of its files. */
  client(name: string, groups: readonly string[]): { cert: string; key: string };
  stop(): Promise<void>;
}

export interface ApiStackOptions {
  readonly folder?: string;
  readonly tokens?: readonly Token[];
  readonly podLogs?: PodLogs;
  readonly admissions?: readonly Admission[];
  readonly port?: number;
  /** Take the certificates that are in `folder` already. */
  readonly keepAuthority?: boolean;
}

export async function startApiStack(options: ApiStackOptions = {}): Promise<ApiStack> {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), "fl-t-api-"));
  mkdirSync(folder, { recursive: true });
  const authority = makeAuthority(folder, options.keepAuthority ?? false);
  const server = authority("server", "/CN=fairlead-api", "subjectAltName=IP:127.0.0.1,DNS:localhost");
  const admin = authority("admin", "/O=system:masters/CN=admin");
  const text = (path: string) => readFileSync(path, "utf8");
  const log = createLogger((line) => console.error(line), "warn");
  const store = openSqliteStore({
    path: join(folder, "store.db"),
    scheme: builtinScheme(),
    log,
    admissions: options.admissions ?? [serviceAdmission({ serviceCidr: "10.96.0.0/16" })],
  });
  const api = await startApiServer({
    store,
    tls: { key: text(server.key), cert: text(server.cert), clientCa: text(join(folder, "ca.crt")) },
    tokens: options.tokens ?? [],
    address: "127.0.0.1",
    port: options.port ?? 0,
    log,
    ...(options.podLogs ? { podLogs: options.podLogs } : {}),
  });
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(kubeconfig, kubeconfigFor(api.url, folder, admin));
  return {
    folder,
    store,
    url: api.url,
    kubeconfig,
    ca: join(folder, "ca.crt"),
    client: (name, groups) => authority(name, `${groups.map((group) => `/O=${group}`).join("")}/CN=${name}`),
    async stop() {
      await api.stop();
      store.close();
      if (options.folder === undefined || options.keepAuthority) rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function kubeconfigFor(url: string, folder: string, client: { cert: string; key: string }): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "fl",
    clusters: [{ name: "fl", cluster: { server: url, "certificate-authority": join(folder, "ca.crt") } }],
    users: [{ name: "fl", user: { "client-certificate": client.cert, "client-key": client.key } }],
    contexts: [{ name: "fl", context: { cluster: "fl", user: "fl" } }],
  });
}

function makeAuthority(folder: string, keep: boolean) {
  const openssl = (...args: string[]) => {
    const done = Bun.spawnSync(["openssl", ...args], { cwd: folder, stderr: "pipe" });
    if (done.exitCode !== 0) throw new Error(`openssl ${args[0]}: ${done.stderr.toString()}`);
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  if (!keep) openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=fl-t", "-days", "2");
  return (name: string, subject: string, extension = "extendedKeyUsage=clientAuth") => {
    if (keep) return { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
    openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject);
    writeFileSync(join(folder, `${name}.ext`), `${extension}\n`);
    openssl(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
      ...["-out", `${name}.crt`, "-days", "2", "-extfile", `${name}.ext`],
    );
    return { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
  };
}

if (import.meta.main) {
  const stack = await startApiStack({ folder: process.argv[2] ?? "/tmp/fl-t-api", port: Number(process.argv[3] ?? 0) });
  console.log(`KUBECONFIG=${stack.kubeconfig} ${stack.url}`);
}
