import { describe, expect, test } from "bun:test";
import { joinedSettings, newSettings, type UpOptions } from "./settings-from-options.ts";
import { defaultRanges } from "./stack.ts";

const options = (more: Partial<UpOptions> = {}): UpOptions => ({ name: "default", images: [], ranges: {}, ...more });

const host = { privileged: true, workingDirectory: "/" };

describe("the settings of a new stack", () => {
  test("use namespaces where they can be made, and loopback elsewhere", () => {
    expect(newSettings(options(), host)).toMatchObject({ network: "netns", proxyMode: "iptables", nodes: 1 });
    expect(newSettings(options(), { ...host, privileged: false })).toMatchObject({
      network: "loopback",
      proxyMode: "userspace",
    });
  });

  test("have the proxy mode that was asked for, where the network has it", () => {
    for (const proxyMode of ["nftables", "ipvs"]) {
      expect(newSettings(options({ proxyMode }), host).proxyMode as string).toBe(proxyMode);
    }
    expect(() => newSettings(options({ proxyMode: "ebpf" }), host)).toThrow(
      "--proxy-mode ebpf: the netns network has iptables",
    );
    expect(() => newSettings(options({ proxyMode: "nftables", network: "loopback" }), host)).toThrow("only userspace");
  });

  test("take image rules apart at the first equals sign", () => {
    const { images } = newSettings(options({ images: ["nginx*=env A=b server"] }), host);
    expect(images).toEqual([{ pattern: "nginx*", command: "env A=b server" }]);
  });

  test.each([
    [{ network: "docker" }, "--network docker: there are netns and loopback"],
    [{ zones: "a,,b" }, '--zones a,,b: "" cannot be a zone; write names joined by commas, for example a,b,c'],
    [{ nodes: "0" }, "--nodes 0: a number from 1 to 16 is wanted"],
    [
      { images: ["nginx"] },
      "--image 'nginx': write it as PATTERN=COMMAND, for example 'nginx*=python3 -m http.server 80'",
    ],
    [
      { ranges: { pods: "10.244.0.0" } },
      "--pod-cidr 10.244.0.0: not an address range in CIDR notation (10.96.0.0/16, or",
    ],
    [{ ranges: { pods: "10.96.0.0/12" } }, "the Service range 10.96.0.0/16 overlaps the pod range 10.96.0.0/12"],
    [{ network: "loopback", ranges: { pods: "10.1.0.0/16" } }, "the pods range 10.1.0.0/16 is not within 127.0.0.0/8"],
  ] as [Partial<UpOptions>, string][])("refuse %j", (wrong, message) => {
    expect(() => newSettings(options(wrong), host)).toThrow(message);
  });
});

describe("the IP families of a new stack", () => {
  const rangesOf = (more: Partial<UpOptions>) => newSettings(options(more), host).ranges;

  test("are IPv4 unless something else is asked for", () => {
    expect(rangesOf({})).toEqual([defaultRanges[4]]);
    expect(rangesOf({ ipFamilies: "IPv6" })).toEqual([defaultRanges[6]]);
    expect(rangesOf({ ipFamilies: "ipv6, ipv4" })).toEqual([defaultRanges[6], defaultRanges[4]]);
  });

  test("are those of the ranges, the Service range's first one being the primary one", () => {
    const ranges = { services: "fd00:1::/112,10.1.0.0/16", pods: "10.2.0.0/16" };
    expect(rangesOf({ ranges })).toEqual([
      { ...defaultRanges[6], services: "fd00:1::/112" },
      { ...defaultRanges[4], services: "10.1.0.0/16", pods: "10.2.0.0/16" },
    ]);
  });

  test.each([
    [{ ipFamilies: "ipv5" }, "--ip-families ipv5: there are ipv4, ipv6, and both joined by a comma"],
    [{ ipFamilies: "ipv4,ipv4" }, "--ip-families ipv4,ipv4: there are"],
    [
      { ipFamilies: "ipv4", ranges: { pods: "fd00:2::/56" } },
      "--pod-cidr fd00:2::/56: this is IPv6, and --ip-families is ipv4",
    ],
    [{ ranges: { nodes: "10.1.0.0/24,10.2.0.0/24" } }, "--node-cidr 10.1.0.0/24,10.2.0.0/24: two ranges of IPv4"],
    [
      { ranges: { services: "fd00:2::/60" } },
      "--service-cidr fd00:2::/60: too large, an IPv6 Service range has a prefix length",
    ],
    [{ network: "loopback", ipFamilies: "ipv4,ipv6" }, "--ip-families ipv4,ipv6: the loopback network has no IPv6"],
  ] as [Partial<UpOptions>, string][])("refuse %j", (wrong, message) => {
    expect(() => newSettings(options(wrong), host)).toThrow(message);
  });

  test("stay as they are when the stack is joined", () => {
    const existing = newSettings(options({ ipFamilies: "ipv6,ipv4" }), host);
    expect(joinedSettings(existing, options({ ipFamilies: "ipv6,ipv4" }))).toBe(existing);
    expect(joinedSettings(existing, options({ ranges: { pods: "10.244.0.0/16, fd00:10:244::/56" } }))).toBe(existing);
    expect(() => joinedSettings(existing, options({ ipFamilies: "ipv4" }))).toThrow(
      'stack "default" was made with --ip-families ipv6,ipv4, not ipv4',
    );
  });
});

describe("joining a stack that exists", () => {
  const existing = newSettings(options({ nodes: "2" }), host);

  test("keeps its settings and adds image rules", () => {
    expect(joinedSettings(existing, options())).toBe(existing);
    expect(joinedSettings(existing, options({ images: ["a=b"] })).images).toEqual([{ pattern: "a", command: "b" }]);
  });

  test("takes another number of proxy workers, and only that is other", () => {
    expect(joinedSettings(existing, options({ proxyWorkers: "3" }))).toEqual({ ...existing, proxyWorkers: 3 });
    expect(joinedSettings(existing, options({ proxyWorkers: "1" }))).toBe(existing);
    expect(() => joinedSettings(existing, options({ proxyWorkers: "0" }))).toThrow(
      "--proxy-workers 0: a number from 1 to 64 is wanted",
    );
  });

  test("refuses other zones", () => {
    const zoned = newSettings(options({ zones: "a, b" }), host);
    expect(zoned.zones).toEqual(["a", "b"]);
    expect(joinedSettings(zoned, options({ zones: "a,b" }))).toBe(zoned);
    expect(() => joinedSettings(zoned, options({ zones: "c" }))).toThrow(
      'stack "default" was made with --zones a,b, not c',
    );
  });

  test("refuses another number of nodes", () => {
    expect(() => joinedSettings(existing, options({ nodes: "3" }))).toThrow(
      'stack "default" was made with --nodes 2, not 3',
    );
  });
});
