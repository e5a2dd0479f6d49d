// The TLS Secrets that Gateways refer to: whether each can serve, and the model's secret made from it. Secrets that no Gateway
// names are not looked into.

import { createHash } from "node:crypto";
import { type KubeObject, objectName, splitName } from "../../api/object.ts";
import { checkCertificate } from "../../model/certificate.ts";
import type { Secret } from "../../model/model.ts";
import { kubernetesSecretName } from "../../model/names.ts";
import { Redacted } from "../../model/redacted.ts";
import type { GatewayView } from "./views.ts";

export interface CertificateView {
  /** `namespace/name` of the Secret. */
  readonly key: string;
  /** DNS names of the certificate; undefined when it cannot serve. */
  readonly names: readonly string[] | undefined;
  /** Why it cannot serve, as a clause after "the Secret"; empty when it can. */
  readonly problem: string;
  /** Undefined when it cannot serve. */
  readonly secret: Secret | undefined;
}

/** The Secrets that a Gateway's listeners name, as `namespace/name`. */
export function referencedSecrets(gateway: GatewayView): readonly string[] {
  const keys = new Set<string>();
  for (const listener of gateway.spec.listeners) {
    for (const ref of listener.tls?.certificateRefs ?? [])
      keys.add(`${ref.namespace ?? gateway.namespace}/${ref.name}`);
  }
  return [...keys];
}

export function certificateView(object: KubeObject): CertificateView {
  const key = objectName(object);
  const certificate = decode(object, "tls.crt");
  const privateKey = decode(object, "tls.key");
  if (certificate === undefined || privateKey === undefined) {
    const missing = certificate === undefined ? "tls.crt" : "tls.key";
    return { key, names: undefined, problem: `has no ${missing} in its data`, secret: undefined };
  }
  const check = checkCertificate(certificate, privateKey);
  if (!check.ok) return { key, names: undefined, problem: `cannot serve: ${check.reason}`, secret: undefined };
  const { namespace, name } = splitName(key);
  const secret: Secret = {
    name: kubernetesSecretName(namespace ?? "default", name),
    from: { kind: "Secret", namespace: namespace ?? "default", name, field: "" },
    fingerprint: createHash("sha256").update(certificate).update("\0").update(privateKey).digest("hex"),
    content: { kind: "certificate", certificate, privateKey: new Redacted(privateKey) },
  };
  return { key, names: check.names, problem: "", secret };
}

/** `stringData` is there only when the object came straight from a file. */
function decode(object: KubeObject, field: string): string | undefined {
  const plain = object["stringData"]?.[field];
  if (typeof plain === "string") return plain;
  const encoded = object["data"]?.[field];
  return typeof encoded === "string" ? Buffer.from(encoded, "base64").toString("utf8") : undefined;
}

/** Equal when the content is: a Secret's key has no other equality than its fingerprint. */
export function sameCertificate(a: CertificateView, b: CertificateView): boolean {
  return a.key === b.key && a.problem === b.problem && a.secret?.fingerprint === b.secret?.fingerprint;
}
