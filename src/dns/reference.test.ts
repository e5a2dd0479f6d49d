// Random clusters, random questions: what comes out of the server as bytes, by the long way and from the cache, before and after
// changes, is what a slow function over the objects says. FAIRLEAD_DNS_QUESTIONS sets how many questions (10,000).

import { describe, expect, test } from "bun:test";
import { decode, encode, type RecordType, type SrvAnswer } from "dns-packet";
import type { EndpointSlice, Service } from "../api/kinds.ts";
import { silentLogger } from "../base/log.ts";
import { resolveService } from "../services/resolved-service.ts";
import { AnswerCache } from "./answer-cache.ts";
import { type ServiceNames, serviceNames } from "./names.ts";
import { handleMessage } from "./server.ts";
import { ZoneTable } from "./zone-table.ts";

const questions = Number(process.env["FAIRLEAD_DNS_QUESTIONS"] ?? 10_000);
const zone = "cluster.local";

/** Numbers that are the same in each run (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
const random = numbers(7);
const below = (count: number) => Math.floor(random() * count);
const pick = <T>(from: readonly T[]): T => from[below(from.length)]!;
const some = <T>(from: readonly T[]): T[] => from.filter(() => random() < 0.5);

const namespaces = ["shop", "infra", "empty"];
const serviceNameList = ["cart", "db", "web", "a", "svc", "pod"];
const labels = ["db-0", "db-1", "web-0"];
const portNames = ["http", "pg", "dns", ""];
const protocols = ["TCP", "UDP"] as const;

interface Given {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
}

function randomService(namespace: string, name: string): Given {
  const kind = pick(["ip", "ip", "headless", "headless", "external"]);
  const ports = some(portNames).map((port, at) => ({ name: port, protocol: pick(protocols), port: 80 + at }));
  const metadata = { namespace, name };
  const spec: Record<string, unknown> = { type: "ClusterIP", ports };
  if (kind === "ip") {
    const v4 = `10.96.${below(3)}.${below(200)}`;
    spec["clusterIPs"] = pick([
      [v4],
      [`fd00::${(1 + below(200)).toString(16)}`],
      [v4, `fd00::${(1 + below(200)).toString(16)}`],
    ]);
    spec["clusterIP"] = (spec["clusterIPs"] as string[])[0];
  } else if (kind === "headless") spec["clusterIP"] = "None";
  else {
    const inside = `${pick(serviceNameList)}.${pick(namespaces)}.svc.${zone}`;
    Object.assign(spec, { type: "ExternalName", externalName: pick(["www.example.com", "192.0.2.7", inside]) });
  }
  const slices = [4, 6].map((family): EndpointSlice => {
    const count = below(4);
    return {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { namespace, name: `${name}-${family}` },
      addressType: family === 4 ? "IPv4" : "IPv6",
      ports: ports.map((port) => ({ ...port, port: port.port + 8000 })),
      endpoints: Array.from({ length: count }, (_, at) => ({
        addresses: [family === 4 ? `10.244.${below(3)}.${at + 1}` : `fd01::${at + 1}`],
        conditions: { ready: random() < 0.7 },
        ...(random() < 0.5 ? { hostname: pick(labels) } : {}),
      })),
    };
  });
  return { service: { apiVersion: "v1", kind: "Service", metadata, spec } as Service, slices };
}

type Records = Map<string, Map<string, Set<string>>>;

/** Every record of the zone, written down one after another. */
function allRecords(cluster: ReadonlyMap<string, Given>): Records {
  const records: Records = new Map();
  const exists = (name: string) => {
    for (let at = name; at !== "" && !records.has(at); ) {
      records.set(at, new Map());
      if (at === zone || !at.endsWith(zone)) break;
      at = at.slice(at.indexOf(".") + 1);
    }
  };
  const add = (name: string, type: string, data: string) => {
    exists(name);
    const types = records.get(name)!;
    types.set(type, (types.get(type) ?? new Set()).add(data));
  };
  const addAddress = (name: string, ip: string) => add(name, ip.includes(":") ? "AAAA" : "A", ip);
  for (const top of ["svc", "pod"]) for (const one of namespaces) exists(`${one}.${top}.${zone}`);
  add(`dns-version.${zone}`, "TXT", "1.1.0");
  addAddress(`ns.dns.${zone}`, "10.96.0.10");
  add(zone, "NS", `ns.dns.${zone}`);
  add(zone, "SOA", "soa");
  for (const { service, slices } of cluster.values()) {
    const name = `${service.metadata.name}.${service.metadata.namespace}.svc.${zone}`;
    const { type, externalName, clusterIP, clusterIPs = [], ports = [] } = service.spec!;
    if (type === "ExternalName") {
      if (/^[0-9.]+$/.test(externalName!)) addAddress(name, externalName!);
      else add(name, "CNAME", externalName!);
    } else if (clusterIP !== "None") {
      for (const ip of clusterIPs) addAddress(name, ip);
      for (const ip of clusterIPs) add(reverse(ip), "PTR", name);
      for (const port of ports) {
        add(name, "SRV", `${port.port} ${name}`);
        if (port.name) add(`_${port.name}._${port.protocol!.toLowerCase()}.${name}`, "SRV", `${port.port} ${name}`);
      }
    }
    if (type === "ExternalName") continue;
    // Endpoints have names below any Service, as CoreDNS has it; only below a headless one are they the Service's own.
    const headless = clusterIP === "None";
    for (const slice of slices) {
      for (const { addresses, conditions, hostname } of slice.endpoints ?? []) {
        if (!conditions?.ready) continue;
        const own = `${hostname ?? addresses[0]!.replace(/[.:]/g, "-")}.${name}`;
        addAddress(own, addresses[0]!);
        if (headless) addAddress(name, addresses[0]!);
        if (headless) add(reverse(addresses[0]!), "PTR", own);
        for (const port of slice.ports ?? []) {
          const srv = `${port.port} ${own}`;
          add(own, "SRV", srv);
          if (!headless) continue;
          add(name, "SRV", srv);
          if (port.name) add(`_${port.name}._${port.protocol!.toLowerCase()}.${name}`, "SRV", srv);
        }
      }
    }
  }
  return records;
}

function reverse(ip: string): string {
  if (!ip.includes(":")) return `${ip.split(".").reverse().join(".")}.in-addr.arpa`;
  const [head, tail] = ip.split("::");
  const hex = head!.padStart(4, "0") + tail!.padStart(28, "0");
  return `${[...hex].reverse().join(".")}.ip6.arpa`;
}

interface Expected {
  readonly rcode: string;
  readonly answers: readonly string[];
}

function reference(records: Records, asked: string, type: string): Expected {
  const name = asked.toLowerCase();
  const types = records.get(name);
  const ours = name === zone || name.endsWith(`.${zone}`);
  if (!types) {
    const pod = /^(\d+-\d+-\d+-\d+)\.([a-z]+)\.pod\./.exec(name);
    if (pod && ours && namespaces.includes(pod[2]!) && name.split(".").length === 5) {
      const ip = pod[1]!.replaceAll("-", ".");
      return { rcode: "NOERROR", answers: type === "A" ? [`A ${ip}`] : [] };
    }
    return { rcode: ours || name.endsWith(".arpa") ? "NXDOMAIN" : "REFUSED", answers: [] };
  }
  const alias = [...(types.get("CNAME") ?? [])][0];
  if (alias === undefined || type === "CNAME") {
    return { rcode: "NOERROR", answers: [...(types.get(type) ?? [])].map((data) => `${type} ${data}`) };
  }
  const answers = [`CNAME ${alias}`];
  for (let next: string | undefined = alias; next !== undefined && answers.length < 9; ) {
    const there: Map<string, Set<string>> | undefined = records.get(next);
    next = [...(there?.get("CNAME") ?? [])][0];
    if (next !== undefined) answers.push(`CNAME ${next}`);
    else answers.push(...[...(there?.get(type) ?? [])].map((data) => `${type} ${data}`));
  }
  return { rcode: "NOERROR", answers };
}

function read(bytes: Uint8Array): Expected & { readonly name: string; readonly aa: boolean } {
  const message = decode(Buffer.from(bytes)) as ReturnType<typeof decode> & { rcode: string };
  const answers = (message.answers ?? []).map((one) => {
    if (one.type === "SRV") {
      const { port, target } = (one as SrvAnswer).data;
      return `SRV ${port} ${target}`;
    }
    return `${one.type} ${one.type === "SOA" ? "soa" : canonical(String((one as { data: unknown }).data))}`;
  });
  return { rcode: message.rcode, answers, name: message.questions![0]!.name, aa: message.flag_aa };
}

const canonical = (data: string) => (data.includes("::") ? data.replace(/::0+(?=.)/, "::") : data);

function randomQuestion(records: Records): { name: string; type: string } {
  const known = [...records.keys()];
  let name = pick(known);
  if (random() < 0.3) name = name.split(".").slice(below(3)).join(".") || zone;
  if (random() < 0.2) name = `${pick(["x", "_http", "_tcp", "db-0", "10-244-0-1", "_", "cart"])}.${name}`;
  if (random() < 0.1) name = name.replace(pick(namespaces), pick(["nope", ...namespaces]));
  if (random() < 0.1) name = `10-1-2-${below(256)}.${pick(["shop", "nope"])}.pod.${zone}`;
  if (random() < 0.1) name = name.toUpperCase();
  return { name, type: pick(["A", "A", "AAAA", "SRV", "CNAME", "PTR", "TXT", "NS", "SOA", "MX"]) };
}

describe("answers to random questions about random clusters", () => {
  test(
    "are what the objects say, from the cache too",
    () => {
      const settings = { zone, nameservers: ["10.96.0.10"], ttl: 5, pods: "insecure" as const };
      const table = new ZoneTable(settings);
      const cache = new AnswerCache(table, random);
      const answering = { names: table, log: silentLogger, random };
      const cluster = new Map<string, Given>();
      const put = (namespace: string, name: string): ServiceNames => {
        const given = randomService(namespace, name);
        cluster.set(`${namespace}/${name}`, given);
        return serviceNames(resolveService(given.service, given.slices));
      };
      table.begin();
      table.apply({ namespaces });
      for (const namespace of ["shop", "infra"])
        table.apply({ services: serviceNameList.map((name) => put(namespace, name)) });
      table.end();
      let records = allRecords(cluster);
      let fromCache = 0;
      for (let n = 0; n < questions; n++) {
        if (n % 50 === 49) {
          const [namespace, name] = [pick(["shop", "infra"]), pick(serviceNameList)];
          if (random() < 0.3) {
            cluster.delete(`${namespace}/${name}`);
            table.apply({ servicesGone: [`${namespace}/${name}`] });
          } else table.apply({ services: [put(namespace, name)] });
          records = allRecords(cluster);
        }
        const question = randomQuestion(records);
        const expected = reference(records, question.name, question.type);
        const message = encode({
          type: "query",
          id: n & 0xffff,
          flags: 0x0100,
          questions: [{ name: question.name, type: question.type as RecordType }],
        });
        let reply: Uint8Array = new Uint8Array();
        const length = cache.answer(message, 1232, false);
        if (length > 0) {
          fromCache++;
          reply = new Uint8Array(cache.out.subarray(0, length));
        } else {
          const send = (bytes: Uint8Array) => {
            reply = new Uint8Array(bytes);
          };
          handleMessage(message, "tcp", answering, send, "127.0.0.1", cache);
        }
        const got = read(reply);
        const what = `${question.name} ${question.type}`;
        const actual = [got.rcode, ...[...new Set(got.answers)].sort(), reply[0]! * 256 + reply[1]!, got.name];
        const wanted = [expected.rcode, ...[...new Set(expected.answers)].sort(), n & 0xffff, question.name];
        if (!Bun.deepEquals(actual, wanted)) expect([what, ...actual]).toEqual([what, ...wanted]);
      }
      expect(fromCache).toBeGreaterThan(questions / 20);
    },
    Math.max(10_000, questions),
  );
});
