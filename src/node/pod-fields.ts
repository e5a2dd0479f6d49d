// Fields of a pod as environment variables and downward API files name them (pkg/fieldpath ExtractFieldPathAsString, and
// the few of status that kubelets add), and the resources of a container in the divisor that is asked for.

import type { Container, Pod } from "../api/kinds.ts";

/** What the agent knows before the status says so. */
export interface PodFacts {
  readonly podIPs: readonly string[];
  readonly hostIPs: readonly string[];
  readonly node: string;
}

/** The text of a field; undefined when there is no such field. */
export function podField(pod: Pod, facts: PodFacts, path: string): string | undefined {
  const { metadata, spec } = pod;
  const subscript = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path);
  if (subscript) return metadata[subscript[1] as "labels" | "annotations"]?.[subscript[2]!] ?? "";
  switch (path) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace ?? "default";
    case "metadata.uid":
      return metadata.uid ?? "";
    case "metadata.labels":
      return mapText(metadata.labels);
    case "metadata.annotations":
      return mapText(metadata.annotations);
    case "spec.nodeName":
      return facts.node;
    case "spec.serviceAccountName":
      return spec?.serviceAccountName ?? "default";
    case "status.hostIP":
      return facts.hostIPs[0] ?? "";
    case "status.hostIPs":
      return facts.hostIPs.join(",");
    case "status.podIP":
      return facts.podIPs[0] ?? "";
    case "status.podIPs":
      return facts.podIPs.join(",");
    default:
      return undefined;
  }
}

/** `limits.cpu`, `requests.memory`, …; `divisor` is a quantity. Undefined when the name is none. */
export function resourceField(container: Container, name: string, divisor: string | undefined): string | undefined {
  const match = /^(limits|requests)\.(.+)$/.exec(name);
  if (!match) return undefined;
  const { limits, requests } = container.resources ?? {};
  const text = match[1] === "limits" ? limits?.[match[2]!] : (requests?.[match[2]!] ?? limits?.[match[2]!]);
  const value = quantity(text ?? "0");
  const by = quantity(divisor === undefined || divisor === "0" ? "1" : divisor);
  if (value === undefined || by === undefined || by === 0) return undefined;
  return String(Math.ceil(value / by));
}

const suffixes: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

function quantity(text: string): number | undefined {
  const match = /^([0-9.]+)([a-zA-Z]*)$/.exec(text);
  const factor = match ? suffixes[match[2]!] : undefined;
  return factor === undefined ? undefined : Number(match![1]) * factor;
}

/** `key="value"` a line, sorted (pkg/fieldpath FormatMap). */
function mapText(map: Readonly<Record<string, string>> | undefined): string {
  const lines = Object.entries(map ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return lines.sort().join("\n");
}
