import { describe, expect, test } from "bun:test";
import { joinedSettings, newSettings, type UpOptions } from "./settings-from-options.ts";

const options = (more: Partial<UpOptions> = {}): UpOptions => ({ name: "default", images: [], ranges: {}, ...more });

const host = { privileged: true, apiPort: 6443, workingDirectory: "/" };

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
    [{ ranges: { pods: "10.244.0.0" } }, "--pod-cidr 10.244.0.0: not an address range in CIDR notation (10.96.0.0/16)"],
    [{ ranges: { pods: "10.96.0.0/12" } }, "--pod-cidr 10.96.0.0/12: it overlaps --service-cidr 10.96.0.0/16"],
    [
      { network: "loopback", ranges: { pods: "10.1.0.0/16" } },
      "--pod-cidr 10.1.0.0/16: the loopback network has only addresses of 127.0.0.0/8",
    ],
  ] as [Partial<UpOptions>, string][])("refuse %j", (wrong, message) => {
    expect(() => newSettings(options(wrong), host)).toThrow(message);
  });
});

describe("joining a stack that exists", () => {
  const existing = newSettings(options({ nodes: "2" }), host);

  test("keeps its settings and adds image rules", () => {
    expect(joinedSettings(existing, options())).toBe(existing);
    expect(joinedSettings(existing, options({ images: ["a=b"] })).images).toEqual([{ pattern: "a", command: "b" }]);
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
