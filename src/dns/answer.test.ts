import { describe, expect, test } from "bun:test";
import type { EndpointSlice, Pod, Service, ServiceSpec } from "../api/kinds.ts";
import { resolveService } from "../services/resolved-service.ts";
import { answer, denyReverse } from "./answer.ts";
import { type ServiceNames, serviceNames, type ZoneView } from "./names.ts";
import type { Reply } from "./records.ts";
import { resolvConf } from "./resolv-conf.ts";

interface Given {
  readonly spec: ServiceSpec;
  readonly endpoints?: readonly { readonly ip: string; readonly hostname?: string; readonly ready?: boolean }[];
}

function namesOf(name: string, { spec, endpoints = [] }: Given): ServiceNames {
  const service: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec: { type: "ClusterIP", ...(spec.clusterIP ? { clusterIPs: [spec.clusterIP] } : {}), ...spec },
  };
  const slices = [4, 6].map(
    (family): EndpointSlice => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: `${name}-${family}`, namespace: "shop" },
      addressType: family === 4 ? "IPv4" : "IPv6",
      ports: (spec.ports ?? []).map((port) => ({
        name: port.name ?? "",
        protocol: port.protocol ?? "TCP",
        port: port.port + 8000,
      })),
      endpoints: endpoints
        .filter((one) => one.ip.includes(":") === (family === 6))
        .map((one) => ({
          addresses: [one.ip],
          conditions: { ready: one.ready ?? true },
          ...(one.hostname ? { hostname: one.hostname } : {}),
        })),
    }),
  );
  return serviceNames(resolveService(service, slices));
}

const ports = [{ name: "http", port: 80 }, { name: "metrics", port: 90 }, { port: 99 }] as const;
const services = Object.entries({
  cart: { spec: { clusterIP: "10.96.0.5", ports } },
  both: { spec: { clusterIP: "10.96.0.6", clusterIPs: ["10.96.0.6", "fd00:96::6"], ports } },
  db: {
    spec: { clusterIP: "None", ports: [{ name: "pg", port: 5432 }] },
    endpoints: [{ ip: "10.244.0.1", hostname: "db-0" }, { ip: "10.244.0.2" }, { ip: "10.244.0.3", ready: false }],
  },
  six: { spec: { clusterIP: "None", ports: [] }, endpoints: [{ ip: "fd00::9" }] },
  idle: { spec: { clusterIP: "None", ports } },
  web: { spec: { type: "ExternalName", externalName: "www.example.com." } },
  alias: { spec: { type: "ExternalName", externalName: "cart.shop.svc.cluster.local" } },
  loop: { spec: { type: "ExternalName", externalName: "loop.shop.svc.cluster.local" } },
  ip: { spec: { type: "ExternalName", externalName: "192.0.2.7" } },
} satisfies Record<string, Given>).map(([name, given]) => namesOf(name, given));

const view: ZoneView = {
  zone: "cluster.local",
  nameservers: ["10.96.0.10"],
  synced: true,
  serial: 42,
  hasNamespace: (name) => name === "shop" || name === "empty",
  service: (namespace, name) => services.find((one) => one.namespace === namespace && one.name === name),
  servicesAt: (address) =>
    services.filter((one) =>
      one.kind === "headless"
        ? one.endpoints.some((endpoint) => endpoint.address === address)
        : one.addresses.includes(address),
    ),
};

const ask = (name: string, type = "A") => answer({ name, type }, view);
const data = (reply: Reply | undefined) =>
  reply?.answers.map((one) =>
    one.type === "SRV" ? `${one.data.priority} ${one.data.weight} ${one.data.port} ${one.data.target}` : one.data,
  );
const outcome = (name: string, type = "A") => {
  const reply = ask(name, type);
  if (!reply) return "not ours";
  if (reply.answers.length > 0) return "answer";
  return reply.rcode === "NOERROR" && reply.authorities[0]?.type === "SOA" ? "NODATA" : reply.rcode;
};

describe("a Service's name", () => {
  test("is its addresses, by family", () => {
    expect(data(ask("cart.shop.svc.cluster.local"))).toEqual(["10.96.0.5"]);
    expect(data(ask("both.shop.svc.cluster.local", "AAAA"))).toEqual(["fd00:96::6"]);
    expect(outcome("cart.shop.svc.cluster.local", "AAAA")).toBe("NODATA");
    expect(ask("cart.shop.svc.cluster.local")).toMatchObject({
      rcode: "NOERROR",
      authoritative: true,
      answers: [{ ttl: 5 }],
    });
  });

  test("is found whatever its case, and answered in the case that was asked", () => {
    expect(ask("CART.Shop.svc.cluster.LOCAL.")?.answers[0]?.name).toBe("CART.Shop.svc.cluster.LOCAL.");
  });

  test("has an SRV record for each named port, pointing at itself", () => {
    const reply = ask("_http._tcp.cart.shop.svc.cluster.local", "SRV");
    expect(data(reply)).toEqual(["0 100 80 cart.shop.svc.cluster.local"]);
    expect(reply?.additionals).toMatchObject([{ name: "cart.shop.svc.cluster.local", type: "A", data: "10.96.0.5" }]);
    expect(data(ask("cart.shop.svc.cluster.local", "SRV"))).toHaveLength(3);
  });

  test.each([
    ["_http._udp.cart.shop.svc.cluster.local", "SRV", "NXDOMAIN"],
    ["_nope._tcp.cart.shop.svc.cluster.local", "SRV", "NXDOMAIN"],
    ["_._tcp.cart.shop.svc.cluster.local", "SRV", "NXDOMAIN"],
    ["_tcp.cart.shop.svc.cluster.local", "A", "NODATA"],
    ["_http._tcp.cart.shop.svc.cluster.local", "A", "NODATA"],
    ["cart.shop.svc.cluster.local", "TXT", "NODATA"],
    ["cart.shop.svc.cluster.local", "UNKNOWN_65", "NODATA"],
    ["nope.shop.svc.cluster.local", "A", "NXDOMAIN"],
    ["cart.nope.svc.cluster.local", "A", "NXDOMAIN"],
    ["a.b.c.cart.shop.svc.cluster.local", "A", "NXDOMAIN"],
    ["shop.svc.cluster.local", "A", "NODATA"],
    ["empty.svc.cluster.local", "A", "NODATA"],
    ["nope.svc.cluster.local", "A", "NXDOMAIN"],
    ["svc.cluster.local", "A", "NODATA"],
    ["pod.cluster.local", "A", "NODATA"],
    ["cluster.local", "A", "NODATA"],
    ["www.cluster.local", "A", "NXDOMAIN"],
    ["cart.shop.svc.cluster.local.shop.svc.cluster.local", "A", "NXDOMAIN"],
    ["notcluster.local", "A", "not ours"],
    ["www.example.com", "A", "not ours"],
    [".", "NS", "not ours"],
  ])("%s %s: %s", (name, type, expected) => {
    expect(outcome(name, type)).toBe(expected);
  });
});

describe("a headless Service", () => {
  test("is the addresses of its ready endpoints", () => {
    expect(data(ask("db.shop.svc.cluster.local"))).toEqual(["10.244.0.1", "10.244.0.2"]);
    expect(outcome("db.shop.svc.cluster.local", "AAAA")).toBe("NODATA");
    expect(data(ask("six.shop.svc.cluster.local", "AAAA"))).toEqual(["fd00::9"]);
    expect(outcome("idle.shop.svc.cluster.local")).toBe("NXDOMAIN");
  });

  test("has a name for each endpoint, by hostname or address", () => {
    expect(data(ask("db-0.db.shop.svc.cluster.local"))).toEqual(["10.244.0.1"]);
    expect(data(ask("10-244-0-2.db.shop.svc.cluster.local"))).toEqual(["10.244.0.2"]);
    expect(outcome("10-244-0-3.db.shop.svc.cluster.local")).toBe("NXDOMAIN");
    expect(data(ask("fd00--9.six.shop.svc.cluster.local", "AAAA"))).toEqual(["fd00::9"]);
  });

  test("has an SRV record for each endpoint, with its own port", () => {
    const reply = ask("_pg._tcp.db.shop.svc.cluster.local", "SRV");
    expect(data(reply)).toEqual([
      "0 50 13432 db-0.db.shop.svc.cluster.local",
      "0 50 13432 10-244-0-2.db.shop.svc.cluster.local",
    ]);
    expect(reply?.additionals.map((one) => one.data)).toEqual(["10.244.0.1", "10.244.0.2"]);
  });
});

describe("an external name", () => {
  test("is a CNAME, for any type", () => {
    expect(data(ask("web.shop.svc.cluster.local"))).toEqual(["www.example.com"]);
    expect(data(ask("web.shop.svc.cluster.local", "CNAME"))).toEqual(["www.example.com"]);
    expect(outcome("_http._tcp.web.shop.svc.cluster.local", "SRV")).toBe("NXDOMAIN");
  });

  test("is followed inside of the zone, and no further than eight steps", () => {
    expect(data(ask("alias.shop.svc.cluster.local"))).toEqual(["cart.shop.svc.cluster.local", "10.96.0.5"]);
    expect(data(ask("loop.shop.svc.cluster.local"))?.length).toBeLessThan(12);
  });

  test("that is an address is that address", () => {
    expect(data(ask("ip.shop.svc.cluster.local"))).toEqual(["192.0.2.7"]);
  });
});

describe("other names of the zone", () => {
  test("pods are their addresses, in namespaces that exist", () => {
    expect(data(ask("10-244-0-7.shop.pod.cluster.local"))).toEqual(["10.244.0.7"]);
    expect(data(ask("fd00--7.shop.pod.cluster.local", "AAAA"))).toEqual(["fd00::7"]);
    expect(outcome("10-244-0-7.nope.pod.cluster.local")).toBe("NXDOMAIN");
    expect(outcome("web.shop.pod.cluster.local")).toBe("NXDOMAIN");
  });

  test("the zone has its version, its server and its start of authority", () => {
    expect(ask("dns-version.cluster.local", "TXT")?.answers[0]).toMatchObject({ ttl: 28_800, data: "1.1.0" });
    expect(data(ask("cluster.local", "NS"))).toEqual(["ns.dns.cluster.local"]);
    expect(data(ask("ns.dns.cluster.local"))).toEqual(["10.96.0.10"]);
    expect(ask("cluster.local", "SOA")?.answers[0]?.data).toMatchObject({
      mname: "ns.dns.cluster.local",
      rname: "hostmaster.cluster.local",
      serial: 42,
      minimum: 5,
    });
  });

  test("addresses are the names of Services and of headless endpoints", () => {
    expect(data(ask("5.0.96.10.in-addr.arpa", "PTR"))).toEqual(["cart.shop.svc.cluster.local"]);
    expect(data(ask("1.0.244.10.in-addr.arpa", "PTR"))).toEqual(["db-0.db.shop.svc.cluster.local"]);
    const six = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    expect(data(ask(six, "PTR"))).toEqual(["fd00--9.six.shop.svc.cluster.local"]);
    expect(outcome("5.0.96.10.in-addr.arpa", "A")).toBe("NODATA");
  });

  test("addresses of nobody may be others' to know, and are denied when nobody can be asked", () => {
    expect(outcome("9.9.9.9.in-addr.arpa", "PTR")).toBe("not ours");
    expect(denyReverse({ name: "9.9.9.9.in-addr.arpa", type: "PTR" }, view)).toMatchObject({
      rcode: "NXDOMAIN",
      authorities: [{ name: "in-addr.arpa", type: "SOA" }],
    });
    expect(denyReverse({ name: "www.example.com", type: "A" }, view)).toBeUndefined();
  });

  test("nothing is denied before everything is known", () => {
    const early = { ...view, synced: false };
    expect(answer({ name: "nope.shop.svc.cluster.local", type: "A" }, early)?.rcode).toBe("SERVFAIL");
    expect(answer({ name: "www.example.com", type: "A" }, early)).toBeUndefined();
  });
});

describe("resolv.conf", () => {
  const host = "nameserver 192.0.2.53\nsearch example.com corp.example.com.\noptions timeout:1\n";
  const of = (spec: Partial<NonNullable<Pod["spec"]>> = {}, nameservers = ["10.96.0.10"]) =>
    resolvConf(
      { apiVersion: "v1", kind: "Pod", metadata: { name: "a", namespace: "shop" }, spec: { containers: [], ...spec } },
      { nameservers, host },
    );

  test("searches the pod's namespace, Services, the zone, and then the host's domains", () => {
    expect(of()).toEqual({
      text: "search shop.svc.cluster.local svc.cluster.local cluster.local example.com corp.example.com\nnameserver 10.96.0.10\noptions ndots:5\n",
      problems: [],
    });
    expect(of({ dnsPolicy: "ClusterFirstWithHostNet", hostNetwork: true }).text).toBe(of().text);
  });

  test("is the host's with dnsPolicy Default, and with ClusterFirst on the host's network", () => {
    const own = "search example.com corp.example.com\nnameserver 192.0.2.53\noptions timeout:1\n";
    expect(of({ dnsPolicy: "Default" }).text).toBe(own);
    expect(of({ dnsPolicy: "ClusterFirst", hostNetwork: true }).text).toBe(own);
  });

  test("is what the pod says with dnsPolicy None, and more than the cluster's otherwise", () => {
    const dnsConfig = {
      nameservers: ["192.0.2.1", "10.96.0.10"],
      searches: ["my.example", "svc.cluster.local"],
      options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
    };
    expect(of({ dnsPolicy: "None", dnsConfig }).text).toBe(
      "search my.example svc.cluster.local\nnameserver 192.0.2.1\nnameserver 10.96.0.10\noptions ndots:2 edns0\n",
    );
    expect(of({ dnsConfig }).text).toBe(
      "search shop.svc.cluster.local svc.cluster.local cluster.local example.com corp.example.com my.example\n" +
        "nameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:2 edns0\n",
    );
  });

  test("keeps to what a C library takes, and says what was left out", () => {
    const searches = Array.from({ length: 40 }, (_, at) => `${"x".repeat(20)}${at}.example`);
    const nameservers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    const { text, problems } = of({ dnsPolicy: "None", dnsConfig: { nameservers, searches } });
    const [search = "", ...servers] = text.trimEnd().split("\n");
    expect(search.split(" ")).toEqual(["search", ...searches.slice(0, 32)]);
    expect(servers).toHaveLength(3);
    expect(problems).toEqual([
      "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 192.0.2.1 192.0.2.2 192.0.2.3",
      `Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ${searches.slice(0, 32).join(" ")}`,
    ]);
    const long = Array.from({ length: 12 }, (_, at) => `${"y".repeat(60)}.${`${"z".repeat(60)}.`.repeat(2)}${at}`);
    const cut = of({
      dnsPolicy: "None",
      dnsConfig: { nameservers: ["192.0.2.1"], searches: [...long, "w".repeat(254)] },
    });
    expect(cut.text.split("\n")[0]!.length).toBeLessThanOrEqual(2048 + "search ".length);
    expect(cut.problems).toHaveLength(1);
  });
});
