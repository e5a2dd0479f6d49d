import { describe, expect, test } from "bun:test";
import { parseAddresses, parseChains, parseLoads, parseServers, parseSets } from "./save.ts";

/** As the tools of Debian 12 print it (ipvsadm 1.31, ipset 7.17, kernel 6.1). */
const servers = `-A -t 10.0.0.1:80 -s rr -p 10800
-a -t 10.0.0.1:80 -r 10.1.0.9:8080 -m -w 1
-a -t 10.0.0.1:80 -r 10.1.0.2:8080 -m -w 0
-a -t 10.0.0.1:80 -r 10.1.0.3:8080 -m -w 1
-A -u 10.0.0.1:80 -s mh -b mh-port
-A --sctp-service 10.0.0.1:80 -s rr
-A -t [fd00::1]:80 -s rr -p 100
-a -t [fd00::1]:80 -r [fd00:1::1]:80 -m -w 1
-A -f 7 -s rr
`;

describe("ipvsadm -Sn", () => {
  test("reads as virtual servers with sorted real servers; those of weight 0 stand aside", () => {
    const { pieces, draining } = parseServers(servers, 4);
    expect(pieces).toEqual([
      ["ipvs/-t 10.0.0.1:80", ["-s rr -p 10800", "-r 10.1.0.3:8080 -m -w 1", "-r 10.1.0.9:8080 -m -w 1"]],
      ["ipvs/-u 10.0.0.1:80", ["-s mh -b mh-port"]],
      ["ipvs/--sctp-service 10.0.0.1:80", ["-s rr"]],
    ]);
    expect(draining).toEqual(new Map([["-t 10.0.0.1:80", new Set(["10.1.0.2:8080"])]]));
  });

  test("reads one family, and leaves the ranges of others alone", () => {
    expect(parseServers(servers, 6).pieces).toEqual([
      ["ipvs/-t [fd00::1]:80", ["-s rr -p 100", "-r [fd00:1::1]:80 -m -w 1"]],
    ]);
    expect(parseServers(servers, 4, ["10.0.0.0/24"])).toEqual({ pieces: [], draining: new Map() });
    expect(parseServers(servers, 6, ["fd00::/64"]).pieces).toEqual([]);
  });
});

test("ipvsadm -Ln reads as connections of real servers", () => {
  const text = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr persistent 10800
  -> 10.1.0.1:8080                Masq    0      2          3         
UDP  [fd00::1]:53 rr
  -> [fd00:1::1]:53               Masq    1      0          0         
FWM  7 rr
  -> 10.1.0.1:8080                Masq    1      9          9         
`;
  expect(parseLoads(text)).toEqual([
    { server: "-t 10.0.0.1:80", real: "10.1.0.1:8080", weight: 0, connections: 5 },
    { server: "-u [fd00::1]:53", real: "[fd00:1::1]:53", weight: 1, connections: 0 },
  ]);
});

test("ipset save reads as our sets without the sizes that the kernel chose, and their entries", () => {
  const text = `create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 2048 maxelem 65536 bucketsize 12 initval 0x69166cf0
add KUBE-CLUSTER-IP 10.0.0.1,sctp:80
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30080
create somebodys hash:ip family inet hashsize 1024 maxelem 65536
add somebodys 1.2.3.4
create KUBE-6-IPVS-IPS hash:ip family inet6 hashsize 1024 maxelem 65536
`;
  expect(parseSets(text, 4)).toEqual([
    ["set/KUBE-CLUSTER-IP", ["hash:ip,port family inet maxelem 65536"]],
    ["entry/KUBE-CLUSTER-IP 10.0.0.1,sctp:80", ["add KUBE-CLUSTER-IP 10.0.0.1,sctp:80"]],
    ["set/KUBE-NODE-PORT-TCP", ["bitmap:port range 0-65535"]],
    ["entry/KUBE-NODE-PORT-TCP 30080", ["add KUBE-NODE-PORT-TCP 30080"]],
  ]);
  expect(parseSets(text, 6)).toEqual([["set/KUBE-6-IPVS-IPS", ["hash:ip family inet6 maxelem 65536"]]]);
});

test("ip -o address reads as the device and its addresses", () => {
  const text = `2: kube-ipvs0    inet 10.0.0.1/32 scope global kube-ipvs0\\       valid_lft forever preferred_lft forever
2: kube-ipvs0    inet6 fd00::1/128 scope global nodad \\       valid_lft forever preferred_lft forever
2: kube-ipvs0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever
`;
  const device = ["device/kube-ipvs0", ["type dummy"]] as const;
  expect(parseAddresses(text, 4)).toEqual([device, ["address/10.0.0.1", ["10.0.0.1/32"]]]);
  expect(parseAddresses(text, 6)).toEqual([device, ["address/fd00::1", ["fd00::1/128"]]]);
  expect(parseAddresses("", 4)).toEqual([device]);
  expect(parseAddresses(undefined, 4)).toEqual([]);
});

test("iptables-save reads as our chains and jumps; others' are not looked at", () => {
  const text = `*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j DOCKER
[3:180] -A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
COMMIT
*filter
:KUBE-IPVS-OUT-FILTER - [0:0]
COMMIT
`;
  expect(parseChains(text)).toEqual([
    ["nat/KUBE-SERVICES", ["-s 127.0.0.0/8 -j RETURN", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"]],
    ["nat/PREROUTING", ['-m comment --comment "kubernetes service portals" -j KUBE-SERVICES']],
    ["filter/KUBE-IPVS-OUT-FILTER", []],
  ]);
});
