// What a question about the cluster's zone is answered with: pure, from a view of the names (Kubernetes DNS specification
// 1.1.0; where it leaves room, as CoreDNS's kubernetes plugin does). Wire format, truncation and forwarding are elsewhere.

import { formatIPv6, ipFamily, parseIPv4, parseIPv6 } from "../base/ip.ts";
import type { EndpointName, NamedPort, ServiceNames, ZoneView } from "./names.ts";
import type { DnsQuestion, DnsRecord, Reply } from "./records.ts";

/** Seconds; CoreDNS's default of the kubernetes plugin. */
const defaultTtl = 5;
/** Of the TXT record that names the specification's version; as CoreDNS has it. */
const versionTtl = 28_800;
const specificationVersion = "1.1.0";

/** The reply, or undefined for a name that is not the cluster's to know. */
export function answer(question: DnsQuestion, view: ZoneView): Reply | undefined {
  const name = question.name.toLowerCase().replace(/\.$/, "");
  const reverse = reverseAddress(name);
  if (reverse) return withinSync(view, () => answerReverse(question, reverse, view));
  if (name !== view.zone && !name.endsWith(`.${view.zone}`)) return undefined;
  return withinSync(view, () => {
    const found = lookUp(name.slice(0, -view.zone.length - 1), question, view);
    if (found === undefined) return deny("NXDOMAIN", view.zone, view);
    return found.answers.length > 0 ? found : deny("NOERROR", view.zone, view);
  });
}

function withinSync(view: ZoneView, then: () => Reply | undefined): Reply | undefined {
  if (view.synced) return then();
  return { rcode: "SERVFAIL", authoritative: false, answers: [], authorities: [], additionals: [] };
}

/** The records for a name below the zone; without answers when the name exists and has none of the type. */
function lookUp(below: string, question: DnsQuestion, view: ZoneView): Reply | undefined {
  const labels = below === "" ? [] : below.split(".");
  const top = labels.at(-1);
  if (top === undefined) return apex(question, view);
  if (top === "dns-version" && labels.length === 1) {
    const version = { name: question.name, type: "TXT", ttl: versionTtl, data: specificationVersion } as const;
    return found(question.type === "TXT" ? [version] : []);
  }
  if (top === "dns" && labels.length <= 2) {
    if (labels.length === 1) return found([]);
    return labels[0] === "ns" ? found(addressRecords(question, question.type, view.nameservers, view)) : undefined;
  }
  if (top !== "svc" && top !== "pod") return undefined;
  if (labels.length === 1) return found([]);
  const namespace = labels.at(-2)!;
  if (labels.length === 2) return view.hasNamespace(namespace) ? found([]) : undefined;
  if (top === "pod") return labels.length === 3 ? pod(labels[0]!, namespace, question, view) : undefined;
  const service = view.service(namespace, labels.at(-3)!);
  if (!service) return undefined;
  switch (labels.length) {
    case 3:
      return serviceRecords(service, question, view);
    case 4:
      return endpointRecords(service, labels[0]!, question, view);
    case 5:
      return portRecords(service, labels[0]!, labels[1]!, question, view);
    default:
      return undefined;
  }
}

function apex(question: DnsQuestion, view: ZoneView): Reply {
  if (question.type === "SOA") return found([soa(question.name, view)]);
  if (question.type !== "NS") return found([]);
  const target = `ns.dns.${view.zone}`;
  return found(
    [{ name: question.name, type: "NS", ttl: ttlOf(view), data: target }],
    view.nameservers.map((address) => addressRecord(target, address, view)),
  );
}

/** `10-244-1-5.shop.pod`: the address is in the name, and is checked as far as `view.pods` says. */
function pod(label: string, namespace: string, question: DnsQuestion, view: ZoneView): Reply | undefined {
  if (view.pods === "disabled" || !view.hasNamespace(namespace)) return undefined;
  const address = addressInLabel(label);
  if (address === undefined) return undefined;
  if (view.pods === "verified" && view.namespaceOfPod?.(address) !== namespace) return undefined;
  return found(addressRecords(question, question.type, [address], view));
}

function addressInLabel(label: string): string | undefined {
  const v4 = label.replaceAll("-", ".");
  if (parseIPv4(v4) !== undefined) return v4;
  const v6 = parseIPv6(label.replaceAll("-", ":"));
  return v6 === undefined ? undefined : formatIPv6(v6);
}

function serviceRecords(service: ServiceNames, question: DnsQuestion, view: ZoneView): Reply | undefined {
  if (service.kind === "external") return external(service, question, view);
  if (service.kind === "headless" && service.endpoints.length === 0) return undefined;
  if (question.type === "SRV") return srvRecords(service, () => true, question, view);
  const addresses =
    service.kind === "headless" ? service.endpoints.map((endpoint) => endpoint.address) : service.addresses;
  return found(addressRecords(question, question.type, addresses, view));
}

function endpointRecords(
  service: ServiceNames,
  label: string,
  question: DnsQuestion,
  view: ZoneView,
): Reply | undefined {
  // `_tcp.cart.shop.svc`: nothing is there, but names below it are (RFC 8020).
  if (label.startsWith("_")) {
    const below = (port: NamedPort) => port.name !== "" && `_${port.protocol}` === label;
    return hasPort(service, below) ? found([]) : undefined;
  }
  const endpoints = service.endpoints.filter((endpoint) => endpoint.label === label);
  if (endpoints.length === 0) return undefined;
  if (question.type === "SRV") return endpointSrv(service, endpoints, () => true, question, view);
  const addresses = endpoints.map((endpoint) => endpoint.address);
  return found(addressRecords(question, question.type, addresses, view));
}

function portRecords(
  service: ServiceNames,
  port: string,
  protocol: string,
  question: DnsQuestion,
  view: ZoneView,
): Reply | undefined {
  if (service.kind === "external" || !port.startsWith("_") || !protocol.startsWith("_")) return undefined;
  const fits = (one: NamedPort) => one.name !== "" && `_${one.name}` === port && `_${one.protocol}` === protocol;
  if (!hasPort(service, fits)) return undefined;
  return question.type === "SRV" ? srvRecords(service, fits, question, view) : found([]);
}

/** Whether there is an SRV record for such a port: of a headless Service, at an endpoint that is ready. */
function hasPort(service: ServiceNames, fits: (port: NamedPort) => boolean): boolean {
  if (service.kind === "external") return false;
  if (service.kind === "address") return service.ports.some(fits);
  return service.endpoints.some((endpoint) => endpoint.ports.some(fits));
}

function srvRecords(
  service: ServiceNames,
  fits: (port: NamedPort) => boolean,
  question: DnsQuestion,
  view: ZoneView,
): Reply {
  if (service.kind === "headless") return endpointSrv(service, service.endpoints, fits, question, view);
  const target = serviceName(service, view);
  const ports = service.ports.filter(fits);
  return found(
    ports.map((port) => srv(question, ports.length, port.port, target, view)),
    service.addresses.map((address) => addressRecord(target, address, view)),
  );
}

function endpointSrv(
  service: ServiceNames,
  endpoints: readonly EndpointName[],
  fits: (port: NamedPort) => boolean,
  question: DnsQuestion,
  view: ZoneView,
): Reply {
  const pairs = endpoints.flatMap((endpoint) => endpoint.ports.filter(fits).map((port) => ({ endpoint, port })));
  const targetOf = (endpoint: EndpointName) => `${endpoint.label}.${serviceName(service, view)}`;
  const records = pairs.map(({ endpoint, port }) => srv(question, pairs.length, port.port, targetOf(endpoint), view));
  return found(
    records,
    endpoints.map((endpoint) => addressRecord(targetOf(endpoint), endpoint.address, view)),
  );
}

/** A CNAME, followed while it stays in the zone (RFC 1034, 4.3.2). */
function external(service: ServiceNames, question: DnsQuestion, view: ZoneView): Reply {
  const target = service.externalName;
  if (!target) return found([]);
  // An address as an external name is used in practice, and CoreDNS answers it as one.
  if (ipFamily(target) !== undefined) return found(addressRecords(question, question.type, [target], view));
  const answers: DnsRecord[] = [{ name: question.name, type: "CNAME", ttl: ttlOf(view), data: target }];
  if (question.type === "CNAME") return found(answers);
  let next: string = target;
  for (let step = 0; step < 8 && next.endsWith(`.${view.zone}`); step++) {
    const reply = lookUpPlain(next, question.type, view);
    if (!reply) break;
    answers.push(...reply);
    const last = reply.at(-1);
    if (last?.type !== "CNAME") break;
    next = last.data;
  }
  return found(answers);
}

/** One step of a CNAME chain inside of the zone. */
function lookUpPlain(name: string, type: string, view: ZoneView): readonly DnsRecord[] | undefined {
  const labels = name.slice(0, -view.zone.length - 1).split(".");
  const service = labels.length === 3 && labels[2] === "svc" ? view.service(labels[1]!, labels[0]!) : undefined;
  const target = service?.kind === "external" ? service.externalName : undefined;
  // An address as an external name is an address here, too.
  if (target !== undefined && ipFamily(target) === undefined) {
    return [{ name, type: "CNAME", ttl: ttlOf(view), data: target }];
  }
  return lookUp(name.slice(0, -view.zone.length - 1), { name, type }, view)?.answers;
}

function answerReverse(question: DnsQuestion, reverse: ReverseName, view: ZoneView): Reply | undefined {
  const services = reverse.address === undefined ? [] : view.servicesAt(reverse.address);
  const targets = services.flatMap((service) => {
    const name = serviceName(service, view);
    if (service.kind !== "headless") return [name];
    return service.endpoints.filter((one) => one.address === reverse.address).map((one) => `${one.label}.${name}`);
  });
  // An address of nobody may be known to others: without somebody to ask, the caller denies it (`denyReverse`).
  if (targets.length === 0) return undefined;
  if (question.type !== "PTR") return deny("NOERROR", reverse.zone, view);
  return found(
    [...new Set(targets)].sort().map((data) => ({ name: question.name, type: "PTR", ttl: ttlOf(view), data })),
  );
}

/** For an address that neither the cluster nor anybody who could be asked knows. */
export function denyReverse(question: DnsQuestion, view: ZoneView): Reply | undefined {
  const reverse = reverseAddress(question.name.toLowerCase().replace(/\.$/, ""));
  return reverse && deny("NXDOMAIN", reverse.zone, view);
}

interface ReverseName {
  readonly zone: "in-addr.arpa" | "ip6.arpa";
  /** Undefined for a name that is no whole address. */
  readonly address: string | undefined;
}

function reverseAddress(name: string): ReverseName | undefined {
  if (name.endsWith(".in-addr.arpa")) {
    const address = name.slice(0, -".in-addr.arpa".length).split(".").reverse().join(".");
    return { zone: "in-addr.arpa", address: parseIPv4(address) === undefined ? undefined : address };
  }
  if (!name.endsWith(".ip6.arpa")) return undefined;
  const nibbles = name.slice(0, -".ip6.arpa".length).split(".").reverse();
  const whole = nibbles.length === 32 && nibbles.every((one) => /^[0-9a-f]$/.test(one));
  return { zone: "ip6.arpa", address: whole ? formatIPv6(BigInt(`0x${nibbles.join("")}`)) : undefined };
}

function ttlOf(view: ZoneView): number {
  return view.ttl ?? defaultTtl;
}

function serviceName(service: ServiceNames, view: ZoneView): string {
  return `${service.name}.${service.namespace}.svc.${view.zone}`;
}

function srv(question: DnsQuestion, count: number, port: number, target: string, view: ZoneView): DnsRecord {
  const weight = Math.floor(100 / count);
  return { name: question.name, type: "SRV", ttl: ttlOf(view), data: { priority: 0, weight, port, target } };
}

function addressRecord(name: string, address: string, view: ZoneView): DnsRecord {
  return { name, type: ipFamily(address) === 6 ? "AAAA" : "A", ttl: ttlOf(view), data: address };
}

function addressRecords(
  question: DnsQuestion,
  type: string,
  addresses: readonly string[],
  view: ZoneView,
): DnsRecord[] {
  return [...new Set(addresses)]
    .map((address) => addressRecord(question.name, address, view))
    .filter((one) => one.type === type);
}

function found(answers: readonly DnsRecord[], additionals: readonly DnsRecord[] = []): Reply {
  return {
    rcode: "NOERROR",
    authoritative: true,
    answers,
    authorities: [],
    additionals: answers.length > 0 ? additionals : [],
  };
}

/** NXDOMAIN (no such name), or NOERROR without answers (no such type at this name): both with the SOA (RFC 2308). */
function deny(rcode: "NXDOMAIN" | "NOERROR", zone: string, view: ZoneView): Reply {
  return { rcode, authoritative: true, answers: [], authorities: [soa(zone, view)], additionals: [] };
}

function soa(name: string, view: ZoneView): DnsRecord {
  return {
    name,
    type: "SOA",
    ttl: ttlOf(view),
    data: {
      mname: `ns.dns.${view.zone}`,
      rname: `hostmaster.${view.zone}`,
      serial: view.serial % 2 ** 32,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: ttlOf(view),
    },
  };
}
