// The kubeconfig of a stack: one cluster, one administrator, everything inline, so that the file can be copied.

import { stringify } from "yaml";

export interface KubeconfigParts {
  readonly name: string;
  readonly server: string;
  /** PEM. */
  readonly authority: string;
  readonly certificate: string;
  readonly privateKey: string;
}

export function kubeconfig(parts: KubeconfigParts): string {
  const name = `fairlead-${parts.name}`;
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return stringify(
    {
      apiVersion: "v1",
      kind: "Config",
      "current-context": name,
      clusters: [{ name, cluster: { server: parts.server, "certificate-authority-data": base64(parts.authority) } }],
      contexts: [{ name, context: { cluster: name, user: `${name}-admin`, namespace: "default" } }],
      users: [
        {
          name: `${name}-admin`,
          user: {
            "client-certificate-data": base64(parts.certificate),
            "client-key-data": base64(parts.privateKey),
          },
        },
      ],
    },
    { lineWidth: 0 },
  );
}
