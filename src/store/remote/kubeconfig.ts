// A kubeconfig file as what is needed to speak to one API server (client-go tools/clientcmd, as far as files, inline data
// and tokens go). Programs that make credentials (`exec`, `auth-provider`) are refused with a sentence.

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { messageOf, UserError } from "../../base/errors.ts";

export interface Connection {
  /** `https://127.0.0.1:6443`, without a trailing slash. */
  readonly server: string;
  /** PEM. Absent: the machine's own authorities. */
  readonly ca: string | undefined;
  readonly clientCertificate: { readonly cert: string; readonly key: string } | undefined;
  /** Read again for each request when it lies in a file, because it is replaced there. */
  readonly token: (() => string) | undefined;
  /** Do not check the server's certificate. */
  readonly insecure: boolean;
  readonly serverName: string | undefined;
  /** The namespace of the context. */
  readonly namespace: string;
}

interface Named {
  readonly name: string;
}
interface ClusterFields {
  readonly server?: string;
  readonly "certificate-authority"?: string;
  readonly "certificate-authority-data"?: string;
  readonly "insecure-skip-tls-verify"?: boolean;
  readonly "tls-server-name"?: string;
}
interface UserFields {
  readonly "client-certificate"?: string;
  readonly "client-certificate-data"?: string;
  readonly "client-key"?: string;
  readonly "client-key-data"?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly exec?: { readonly command?: string };
  readonly "auth-provider"?: { readonly name?: string };
}
interface Config {
  readonly "current-context"?: string;
  readonly clusters?: readonly (Named & { readonly cluster: ClusterFields })[];
  readonly users?: readonly (Named & { readonly user: UserFields })[];
  readonly contexts?: readonly (Named & {
    readonly context: { readonly cluster: string; readonly user?: string; readonly namespace?: string };
  })[];
}

/** Reads the file. Throws a UserError that names the file and the field. */
export function readKubeconfig(path: string, context?: string): Connection {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new UserError(`the kubeconfig ${path} cannot be read: ${messageOf(error)}`, {
      remedy: "set KUBECONFIG or pass --kubeconfig with the path of one",
    });
  }
  return parseKubeconfig(text, path, context);
}

/** `path` is where relative file names are looked up from, and what messages name. */
export function parseKubeconfig(text: string, path: string, contextName?: string): Connection {
  const fail = (message: string, remedy?: string) =>
    new UserError(`kubeconfig ${path}: ${message}`, remedy === undefined ? {} : { remedy });
  let config: Config;
  try {
    config = (parse(text) ?? {}) as Config;
  } catch (error) {
    throw fail(`it is no YAML: ${messageOf(error).split("\n")[0]}`);
  }
  const wanted = contextName ?? config["current-context"];
  if (!wanted) throw fail("current-context is not set", "kubectl config use-context NAME");
  const context = named(config.contexts, wanted)?.context;
  if (!context) throw fail(`there is no context ${JSON.stringify(wanted)}`);
  const cluster = named(config.clusters, context.cluster)?.cluster;
  if (!cluster?.server) throw fail(`clusters: ${JSON.stringify(context.cluster)} has no server`);
  const user = (context.user ? named(config.users, context.user)?.user : undefined) ?? {};
  if (user.exec || user["auth-provider"]) {
    const what = user.exec
      ? `exec (${user.exec.command ?? "?"})`
      : `auth-provider (${user["auth-provider"]?.name ?? "?"})`;
    throw fail(
      `users: ${JSON.stringify(context.user)} gets its credentials from ${what}, which is not supported`,
      "use a user with a token or a client certificate (kubectl create token, a service account)",
    );
  }
  if (user.username)
    throw fail(`users: ${JSON.stringify(context.user)} has a password; API servers no longer take them`);

  const folder = dirname(path);
  const pem = (data: string | undefined, file: string | undefined, field: string): string | undefined => {
    if (data) return Buffer.from(data, "base64").toString("utf8");
    if (!file) return undefined;
    try {
      return readFileSync(resolve(folder, file), "utf8");
    } catch (error) {
      throw fail(`${field}: ${messageOf(error)}`);
    }
  };
  const cert = pem(user["client-certificate-data"], user["client-certificate"], "client-certificate");
  const key = pem(user["client-key-data"], user["client-key"], "client-key");
  if (!cert !== !key)
    throw fail(
      `users: ${JSON.stringify(context.user)} has a client certificate without its key, or the other way round`,
    );
  const { token, tokenFile } = user;
  return {
    server: cluster.server.replace(/\/+$/, ""),
    ca: pem(cluster["certificate-authority-data"], cluster["certificate-authority"], "certificate-authority"),
    clientCertificate: cert && key ? { cert, key } : undefined,
    token: tokenFile ? () => readFileSync(resolve(folder, tokenFile), "utf8").trim() : token ? () => token : undefined,
    insecure: cluster["insecure-skip-tls-verify"] ?? false,
    serverName: cluster["tls-server-name"],
    namespace: context.namespace ?? "default",
  };
}

function named<T extends Named>(list: readonly T[] | undefined, name: string): T | undefined {
  return list?.find((one) => one.name === name);
}
