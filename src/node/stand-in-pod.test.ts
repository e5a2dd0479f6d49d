import { expect, test } from "bun:test";
import type { Pod } from "../api/kinds.ts";
import { podFiles } from "./pod-files.ts";
import { standInPod } from "./stand-in-pod.ts";

const containers = [
  { name: "app", ports: [{ containerPort: 80 }, { containerPort: 8080 }, { containerPort: 53, protocol: "UDP" }] },
  { name: "side", ports: [{ containerPort: 9000, name: "admin" }] },
];
const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "shop", name: "cart", uid: "u", labels: { app: "cart" } },
  spec: { containers, serviceAccountName: "cart" },
} as unknown as Pod;

const portsOf = (netns: string | undefined, effectivePort: (port: number) => number, spec: object = {}) => {
  const told = standInPod({
    pod: { ...pod, spec: { ...pod.spec, ...spec } } as Pod,
    node: "node-1",
    place: { netns, addresses: ["10.244.0.5"] },
    files: podFiles("/state", "u"),
    containers: containers.map((one) => ({ spec: one as never, restartCount: 0 })),
    extraPorts: [
      { port: 9000, protocol: "TCP" },
      { port: 7070, protocol: "TCP" },
    ],
    effectivePort,
  });
  const ports = told.containers.map(({ name, ports }) => {
    return `${name}: ${ports.map(({ port, protocol, listenPort }) => `${port}/${protocol}@${listenPort}`).join(" ")}`;
  });
  return { ports, listen: told.listenAddresses };
};

test("in a namespace of its own, a stand-in listens on all addresses, on declared ports and those that Services want", () => {
  expect(portsOf("/run/netns/x", (port) => port)).toEqual({
    ports: ["app: 80/TCP@80 8080/TCP@8080 53/UDP@53 7070/TCP@7070", "side: 9000/TCP@9000"],
    listen: ["0.0.0.0"],
  });
  expect(portsOf("/run/netns/node", (port) => port, { hostNetwork: true }).listen).toEqual(["10.244.0.5"]);
});

test("where low ports are moved, it listens once on ports that come to be the same", () => {
  expect(portsOf(undefined, (port) => (port < 1024 ? port + 8000 : port))).toEqual({
    ports: ["app: 80/TCP@8080 53/UDP@8053 7070/TCP@7070", "side: 9000/TCP@9000"],
    listen: ["10.244.0.5"],
  });
});
