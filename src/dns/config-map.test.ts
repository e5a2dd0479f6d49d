import { describe, expect, test } from "bun:test";
import { defaultConfig } from "./config.ts";
import { parseConfig } from "./config-map.ts";

const problems = (data: Record<string, string>) =>
  parseConfig(data).problems?.map(({ field, message }) => `${field}: ${message}`);

describe("the ConfigMap of the DNS server", () => {
  test("says what CoreDNS users know, each setting by itself", () => {
    const { config } = parseConfig({
      zones: "cluster.local. acme.local",
      ttl: "30",
      pods: "verified",
      forward: "1.1.1.1, [2606:4700::1111]:5353",
      stubDomains: "corp.example: [10.0.0.53, 10.0.0.54:5353]\nLab.example: 10.0.0.55",
      cache: "success: {capacity: 100, ttl: 60}\nprefetch: {amount: 2, duration: 1m}",
      autopath: "false",
    });
    expect(config).toEqual({
      zones: ["cluster.local", "acme.local"],
      ttl: 30,
      pods: "verified",
      forward: {
        to: "servers",
        upstreams: [
          { address: "1.1.1.1", port: 53 },
          { address: "2606:4700::1111", port: 5353 },
        ],
      },
      stubDomains: [
        {
          domain: "corp.example",
          upstreams: [
            { address: "10.0.0.53", port: 53 },
            { address: "10.0.0.54", port: 5353 },
          ],
        },
        { domain: "lab.example", upstreams: [{ address: "10.0.0.55", port: 53 }] },
      ],
      cache: {
        success: { capacity: 100, ttl: 60 },
        denial: defaultConfig.cache.denial,
        prefetch: { amount: 2, duration: 60, percentage: 10 },
      },
      autopath: false,
    });
    expect(parseConfig({}).config).toEqual(defaultConfig);
    expect(parseConfig({ cache: "10" }).config?.cache.denial.ttl).toBe(10);
    expect(parseConfig({ forward: "none" }).config?.forward).toEqual({ to: "nobody" });
    expect(parseConfig({ forward: "/etc/resolv.conf" }).config?.forward).toEqual({ to: "host" });
  });

  test.each([
    [{ ttl: "soon" }, 'data.ttl: "soon": a whole number of seconds from 0 to 3600 is wanted'],
    [
      { zone: "x" },
      "data.zone: there is no such setting; there are zones, ttl, pods, forward, stubDomains, cache, autopath",
    ],
    [{ zones: "clu ster..local" }, 'data.zones: "ster..local" is no domain name'],
    [
      { zones: "10.in-addr.arpa" },
      "data.zones: 10.in-addr.arpa: addresses are looked up without being named as a zone; leave it out",
    ],
    [{ forward: "dns.example" }, "data.forward: DNS server dns.example: not an address"],
    [{ stubDomains: "- a" }, "data.stubDomains: write domains with their servers: corp.example: [10.0.0.53]"],
    [{ cache: "succes: {ttl: 1}" }, 'data.cache: cache: there is no "succes"; there are success, denial, prefetch'],
    [{ autopath: "maybe" }, 'data.autopath: "maybe": true or false is wanted'],
    [
      { Corefile: ".:53 {\n}" },
      "data.Corefile: there is no such setting; there are zones, ttl, pods, forward, stubDomains, cache, autopath",
    ],
  ])("that is wrong is refused with the setting and what is wanted: %j", (data, message) => {
    expect(problems(data as Record<string, string>)).toEqual([message]);
  });

  test("names every problem, and takes nothing", () => {
    expect(parseConfig({ ttl: "-1", pods: "yes", autopath: "true" })).toMatchObject({
      problems: [{ field: "data.ttl" }, { field: "data.pods" }],
    });
  });
});
