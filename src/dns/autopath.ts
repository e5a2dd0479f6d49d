// What a pod's resolver would find by going along its search path (resolv.conf(5), `ndots:5`), found for it at its first question
// (CoreDNS's autopath): `www.example.com.shop.svc.cluster.local` from a pod in `shop` is answered with a CNAME to
// `www.example.com` and what is there. Pure but for the question to others.

import { decode } from "dns-packet";
import { answer } from "./answer.ts";
import type { Forwarder } from "./forwarder.ts";
import { type Query, queryFor } from "./message.ts";
import type { ZoneView } from "./names.ts";
import type { DnsRecord, Reply } from "./records.ts";

/**
 * The name that a client in `namespace` was asked for, when this question is the first of its search path and going on could
 * find something. Not for names of one label, which nobody outside knows, nor for what would be below a Service that
 * exists: a pod of a StatefulSet that is not there yet is nobody else's business.
 */
export function searchedName(asked: string, namespace: string, view: ZoneView): string | undefined {
  const name = asked.toLowerCase();
  const suffix = `.${namespace}.svc.${view.zone}`;
  if (!name.endsWith(suffix)) return undefined;
  const base = name.slice(0, -suffix.length);
  const labels = base.split(".");
  if (labels.length < 2 || labels.some((label) => label === "" || label.startsWith("_"))) return undefined;
  return view.service(namespace, labels.at(-1)!) ? undefined : base;
}

/** The reply of the rest of the search path; undefined when nobody knows the name, or nobody answers. */
export async function searchOn(
  query: Query,
  base: string,
  view: ZoneView,
  forwarder: Forwarder | undefined,
): Promise<Reply | undefined> {
  const { type } = query.question;
  for (const name of [`${base}.svc.${view.zone}`, `${base}.${view.zone}`, base]) {
    const local = answer({ name, type }, view);
    if (local?.rcode === "SERVFAIL") return undefined;
    if (local && local.rcode !== "NXDOMAIN") return aliased(query, name, local.answers, view);
  }
  if (!forwarder?.handles(base)) return undefined;
  const bytes = await forwarder.ask(queryFor(query, base), "tcp");
  if (!bytes || (bytes[3]! & 15) !== 0) return undefined;
  return aliased(query, base, recordsOf(bytes, type), view);
}

/** What of another server's answer leads from the name to records of the type. */
export function recordsOf(bytes: Uint8Array, type: string): readonly DnsRecord[] {
  const { answers = [] } = decode(Buffer.from(bytes));
  return answers.filter((one) => one.type === "CNAME" || one.type === type) as unknown as readonly DnsRecord[];
}

function aliased(query: Query, target: string, records: readonly DnsRecord[], view: ZoneView): Reply {
  const ttl = Math.min(view.ttl ?? 5, ...records.map((one) => one.ttl));
  const alias: DnsRecord = { name: query.question.name, type: "CNAME", ttl, data: target };
  return { rcode: "NOERROR", authoritative: true, answers: [alias, ...records], authorities: [], additionals: [] };
}
