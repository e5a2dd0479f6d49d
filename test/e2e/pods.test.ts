// Pods as people see them with kubectl: host ports in each mode, init containers and sidecars, readiness gates. What upstream's
// conformance tests of these say (hostport.go, init_container.go, pods.go), on real stacks.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually, isRoot, run, TestStack } from "./stack.ts";

const why = !isRoot ? "it needs root" : Bun.which("kubectl") ? undefined : "kubectl is not installed";
if (why) console.log(`skipped: pods: ${why}`);

/** Of this process, so that two runs at once do not meet. */
let second = 100 + 4 * (process.pid % 9);
const ranges = (first: string) => {
  const [pods, services, balancers, nodes] = [second, second + 1, second + 2, second + 3].map(
    (at) => `${first}.${at}.0.0`,
  );
  second = second + 4 > 139 ? 100 : second + 4;
  const options = ["--pod-cidr", `${pods}/16`, "--service-cidr", `${services}/16`];
  return {
    options: [...options, "--load-balancer-cidr", `${balancers}/16`, "--node-cidr", `${nodes}/24`],
    node: nodes!.replace(/0$/, "1"),
  };
};

async function up(stack: TestStack, ...words: string[]): Promise<string> {
  const { options, node } = ranges(stack.network === "netns" ? "10" : "127");
  const { code, err } = await stack.fairlead("up", "--network", stack.network, ...options, ...words);
  if (code !== 0) throw new Error(err);
  return node;
}

const apply = async (stack: TestStack, text: string) => {
  const { code, err } = await stack.apply(text);
  expect(err).toBe("");
  expect(code).toBe(0);
};

const kubectlOf =
  (stack: TestStack) =>
  async (...words: string[]): Promise<string> => {
    const { code, out, err } = await stack.kubectl(...words);
    if (code !== 0) throw new Error(`kubectl ${words.join(" ")}: ${err}`);
    return out;
  };

const hostPortPod = (name: string, port: object) =>
  `${JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: { containers: [{ name: "c", image: "web", ports: [{ containerPort: 8080, hostPort: 54323, ...port }] }] },
  })}\n---\n`;

const podOf = async (argv: readonly string[]): Promise<string> => {
  const { out } = await run(argv);
  return out.startsWith("{") ? (JSON.parse(out) as { pod: string }).pod : `nothing: ${out}`;
};
const curl = (url: string) => ["curl", "-s", "-m", "5", url];

/** Sends a datagram and gives the pod that answers. */
async function datagram(address: string, port: number): Promise<string> {
  const answer = Promise.withResolvers<string>();
  const socket = await Bun.udpSocket({
    connect: { hostname: address, port },
    socket: { data: (_socket, data) => answer.resolve(data.toString()) },
  });
  const timer = setInterval(() => socket.send("hi"), 200);
  const timeout = setTimeout(() => answer.resolve('{"pod":"nobody"}'), 5_000);
  socket.send("hi");
  const { pod } = JSON.parse(await answer.promise) as { pod: string };
  clearInterval(timer);
  clearTimeout(timeout);
  socket.close();
  return pod;
}

describe.skipIf(why !== undefined).each(["iptables", "nftables"])("host ports with %s", (mode) => {
  const stack = new TestStack(`hp-${mode.slice(0, 3)}`);
  const kubectl = kubectlOf(stack);
  let node = "";
  beforeAll(async () => {
    node = await up(stack, "--proxy-mode", mode);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);
  const onNode = (url: string) => stack.exec("node/node-1", ...curl(url)).then(({ out }) => JSON.parse(out).pod);

  test("one port is three pods', by hostIP and by protocol", async () => {
    const pods = [
      hostPortPod("one", { hostIP: "127.0.0.1" }),
      hostPortPod("two", { hostIP: node }),
      hostPortPod("three", { hostIP: node, protocol: "UDP" }),
    ];
    await apply(stack, pods.join(""));
    await kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s");
    expect(await onNode("http://127.0.0.1:54323/")).toBe("one");
    expect(await onNode(`http://${node}:54323/`)).toBe("two");
    expect(await podOf(curl(`http://${node}:54323/`))).toBe("two");
    expect(await datagram(node, 54323)).toBe("three");
  }, 60_000);

  test("a pod is reached by another pod and by itself, and a second one for the same port finds no node", async () => {
    await apply(stack, hostPortPod("any", { hostPort: 54324 }));
    await kubectl("wait", "--for=condition=Ready", "pod/any", "--timeout=30s");
    for (const from of ["default/one", "default/any"]) {
      const { out } = await stack.exec(from, ...curl(`http://${node}:54324/`));
      expect(JSON.parse(out).pod).toBe("any");
    }
    const late = hostPortPod("late", { hostPort: 54324, hostIP: node });
    expect((await stack.apply(late)).err).not.toContain("error");
    const pending = await eventually(
      () => stack.get("pods", "late"),
      (pod) => pod.status.conditions?.some((one: { reason?: string }) => one.reason === "Unschedulable"),
    );
    expect(pending.status.conditions[0].message).toStartWith(
      "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
    );
    await kubectl("delete", "pod", "any");
    await kubectl("wait", "--for=condition=Ready", "pod/late", "--timeout=30s");
    expect(await podOf(curl(`http://${node}:54324/`))).toBe("late");
  }, 60_000);

  test("a deleted pod's port refuses", async () => {
    // Also one that a control process before this one has mapped.
    const { processes } = JSON.parse((await stack.fairlead("status", "-o", "json")).out);
    const control = processes.find(({ component }: { component: string }) => component.startsWith("control"));
    process.kill(control.pid, "SIGKILL");
    expect(await podOf(curl(`http://${node}:54323/`))).toBe("two");
    await eventually(
      () => stack.kubectl("get", "pods"),
      ({ code }) => code === 0,
      20_000,
    );
    expect(await podOf(curl(`http://${node}:54323/`))).toBe("two");
    await kubectl("delete", "pod", "two", "late");
    const { code } = await run(curl(`http://${node}:54323/`));
    expect(code).toBe(7);
  }, 30_000);

  test("a pod on its node's network has the node's address and listens there", async () => {
    const spec = { hostNetwork: true, containers: [{ name: "c", image: "web", ports: [{ containerPort: 9090 }] }] };
    await apply(stack, JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name: "host" }, spec }));
    await kubectl("wait", "--for=condition=Ready", "pod/host", "--timeout=30s");
    const { status } = await stack.get("pods", "host");
    expect([status.podIP, status.hostIP]).toEqual([node, node]);
    expect(await podOf(curl(`http://${node}:9090/`))).toBe("host");
  }, 30_000);

  test("its dnsPolicy decides whether it asks the host's name servers or the cluster's, in all that runs in it", async () => {
    const show = (name: string, dnsPolicy: string) => {
      const metadata = { name, annotations: { "fairlead.dev/command": "cat /etc/resolv.conf; exec sleep 1000" } };
      // The verdict of a probe that looks at the same file.
      const command = ["sh", "-c", "grep -q svc.cluster.local /etc/resolv.conf"];
      const readinessProbe = { exec: { command }, periodSeconds: 1, timeoutSeconds: 5 };
      const spec = { hostNetwork: true, dnsPolicy, containers: [{ name: "c", image: "x", readinessProbe }] };
      return JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata, spec });
    };
    await apply(stack, `${show("default", "ClusterFirst")}\n---\n${show("cluster", "ClusterFirstWithHostNet")}`);
    const log = (name: string) =>
      eventually(
        () => kubectl("logs", name).catch(() => ""),
        (text) => text !== "",
      );
    expect(await log("cluster")).toContain("search default.svc.cluster.local svc.cluster.local cluster.local");
    expect(await log("default")).not.toContain("svc.cluster.local");
    await kubectl("wait", "--for=condition=Ready", "pod/cluster", "--timeout=30s");
    const seen = async (target: string) => (await stack.exec(target, "cat", "/etc/resolv.conf")).out;
    expect(await seen("default/cluster")).toContain("search default.svc.cluster.local");
    expect(await seen("default/default")).not.toContain("svc.cluster.local");
    expect(await seen("node/node-1")).not.toContain("svc.cluster.local");
    expect((await stack.get("pods", "default")).status.containerStatuses[0].ready).toBe(false);
  }, 30_000);
});

describe.skipIf(why !== undefined)("host ports without privileges", () => {
  const stack = new TestStack("hp-loop", "loopback");
  let node = "";
  beforeAll(async () => {
    node = await up(stack);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  test("are listened on at the node's address; SCTP is an Event", async () => {
    const port = 20_000 + (process.pid % 20_000);
    await apply(
      stack,
      hostPortPod("any", { hostPort: port }) + hostPortPod("sctp", { hostPort: port + 1, protocol: "SCTP" }),
    );
    await kubectlOf(stack)("wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s");
    expect(await podOf(curl(`http://${node}:${port}/`))).toBe("any");
    const events = await stack.list("events");
    expect(events.find(({ reason }) => reason === "HostPortNotServed")).toMatchObject({
      involvedObject: { name: "sctp" },
      message: `host port SCTP 0.0.0.0:${port + 1} is not served: the loopback network carries TCP and UDP only`,
    });
  }, 40_000);
});

describe.skipIf(why !== undefined)("containers of a pod", () => {
  const stack = new TestStack("pods");
  const kubectl = kubectlOf(stack);
  beforeAll(async () => {
    await up(stack);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  interface Parts {
    readonly spec: object;
    readonly commands?: Readonly<Record<string, string>>;
    readonly labels?: object;
  }
  const pod = (name: string, { spec, commands = {}, labels = {} }: Parts) => {
    const annotations = Object.fromEntries(
      Object.entries(commands).map(([container, command]) => [`fairlead.dev/command-${container}`, command]),
    );
    return JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name, annotations, labels }, spec });
  };
  const create = async (text: string) => {
    const file = `${stack.home}/pod.json`;
    await Bun.write(file, text);
    await kubectl("create", "-f", file);
  };
  /** The STATUS and READY columns, when they are as wanted or at the end. */
  const row = (name: string, wanted: RegExp) =>
    eventually(
      async () => (await kubectl("get", "pod", name, "--no-headers")).replace(/ +/g, " ").trim(),
      (text) => wanted.test(text),
    );
  const image = "example.com/app:1";

  test("init containers run one after the other, and the pod's own wait for them", async () => {
    const go = `${stack.home}/go`;
    await create(
      pod("ordered", {
        spec: {
          initContainers: ["first", "second"].map((name) => ({ name, image })),
          containers: [{ name: "app", image, ports: [{ containerPort: 80 }] }],
        },
        commands: { first: `while [ ! -e ${go} ]; do sleep 0.1; done`, second: "true" },
      }),
    );
    expect(await row("ordered", /Init:0\/2/)).toMatch(/^ordered 0\/1 Init:0\/2 0 /);
    const before = await stack.get("pods", "ordered");
    expect(before.status.phase).toBe("Pending");
    expect(before.status.containerStatuses[0].state.waiting.reason).toBe("PodInitializing");
    const conditions = (object: any) =>
      Object.fromEntries(
        object.status.conditions.map((one: any) => [one.type, `${one.status} ${one.reason ?? ""}`.trim()]),
      );
    expect(conditions(before)).toEqual({
      PodReadyToStartContainers: "True",
      Initialized: "False ContainersNotInitialized",
      Ready: "False ContainersNotReady",
      ContainersReady: "False ContainersNotReady",
      PodScheduled: "True",
    });
    await Bun.write(go, "");
    expect(await row("ordered", /1\/1 Running/)).toMatch(/^ordered 1\/1 Running 0 /);
    const after = await stack.get("pods", "ordered");
    expect(after.status.initContainerStatuses.map((one: any) => one.state.terminated.reason)).toEqual([
      "Completed",
      "Completed",
    ]);
    expect(conditions(after).Initialized).toBe("True");
  }, 60_000);

  test("an init container that fails is tried again, or fails the pod that never restarts", async () => {
    const spec = (restartPolicy: string) => ({
      restartPolicy,
      initContainers: [{ name: "bad", image }],
      containers: [{ name: "app", image }],
    });
    const commands = { bad: "exit 3" };
    await create(pod("loops", { spec: spec("Always"), commands }));
    await create(pod("fails", { spec: spec("Never"), commands }));
    expect(await row("loops", /Init:CrashLoopBackOff/)).toMatch(/^loops 0\/1 Init:CrashLoopBackOff 1 \(/);
    expect(await row("fails", /Init:Error/)).toMatch(/^fails 0\/1 Init:Error 0 /);
    expect((await stack.get("pods", "fails")).status.phase).toBe("Failed");
  }, 60_000);

  test("a sidecar starts before what follows, is counted, and ends after the containers", async () => {
    const log = `${stack.home}/order`;
    const say = (word: string) => `echo ${word} >> ${log}`;
    await create(
      pod("sided", {
        spec: {
          terminationGracePeriodSeconds: 5,
          initContainers: [
            {
              name: "side",
              image,
              restartPolicy: "Always",
              startupProbe: { exec: { command: ["test", "-e", `${log}.up`] }, periodSeconds: 1 },
            },
            { name: "init", image },
          ],
          containers: [{ name: "app", image }],
        },
        commands: {
          side: `trap '${say("side ends")}; exit 0' TERM; sleep 0.5; ${say("side")}; touch ${log}.up; while :; do sleep 0.1; done`,
          init: say("init"),
          app: `trap '${say("app ends")}; exit 0' TERM; ${say("app")}; while :; do sleep 0.1; done`,
        },
      }),
    );
    expect(await row("sided", /2\/2 Running/)).toMatch(/^sided 2\/2 Running 0 /);
    await kubectl("delete", "pod", "sided");
    expect((await Bun.file(log).text()).trim().split("\n")).toEqual(["side", "init", "app", "app ends", "side ends"]);
  }, 60_000);

  test("a sidecar does not keep a Job from its end, and the ended pod's sandbox goes", async () => {
    const template = {
      metadata: { annotations: { "fairlead.dev/command-side": "sleep 1000", "fairlead.dev/command-app": "true" } },
      spec: {
        restartPolicy: "Never",
        terminationGracePeriodSeconds: 3,
        initContainers: [{ name: "side", image, restartPolicy: "Always" }],
        containers: [{ name: "app", image }],
      },
    };
    await create(
      JSON.stringify({ apiVersion: "batch/v1", kind: "Job", metadata: { name: "task" }, spec: { template } }),
    );
    await kubectl("wait", "--for=condition=Complete", "job/task", "--timeout=30s");
    const [ended] = await stack.list("pods", "-l", "job-name=task");
    expect(await row(ended.metadata.name, /Completed/)).toMatch(/ 0\/2 Completed 0 /);
    expect(ended.status.conditions.find((one: any) => one.type === "Ready").reason).toBe("PodCompleted");
    const gone = await eventually(
      () => stack.exec(`default/${ended.metadata.name}`, "true"),
      ({ code }) => code !== 0,
    );
    expect(gone.code).not.toBe(0);
  }, 60_000);

  test("a pod with a readiness gate is ready when somebody says so", async () => {
    const gate = "example.com/gate";
    await create(
      pod("gated", { spec: { readinessGates: [{ conditionType: gate }], containers: [{ name: "app", image }] } }),
    );
    expect(await row("gated", /1\/1 Running/)).toMatch(/^gated 1\/1 Running/);
    const wide = async () =>
      (await kubectl("get", "pod", "gated", "-o", "wide", "--no-headers")).trim().split(/ +/).at(-1);
    expect(await wide()).toBe("0/1");
    const ready = async () =>
      (await stack.get("pods", "gated")).status.conditions.find((one: any) => one.type === "Ready");
    expect(await ready()).toMatchObject({
      status: "False",
      reason: "ReadinessGatesNotReady",
      message: `corresponding condition of pod readiness gate "${gate}" does not exist.`,
    });
    const patch = JSON.stringify({ status: { conditions: [{ type: gate, status: "True" }] } });
    await kubectl("patch", "pod", "gated", "--subresource=status", "--type=strategic", "-p", patch);
    expect((await eventually(ready, ({ status }) => status === "True")).status).toBe("True");
    expect(await wide()).toBe("1/1");
  }, 60_000);

  test("a StatefulSet's pod is the same one after a restart: its name in DNS, its claim, its data", async () => {
    const command = "echo $HOSTNAME >> /data/starts; exec python3 -m http.server 8080 --directory /data";
    const template = {
      metadata: { labels: { app: "db" }, annotations: { "fairlead.dev/command-db": command } },
      spec: {
        containers: [
          { name: "db", image, ports: [{ containerPort: 8080 }], volumeMounts: [{ name: "data", mountPath: "/data" }] },
        ],
      },
    };
    const claim = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } };
    const spec = {
      ...{ serviceName: "db", replicas: 2, selector: { matchLabels: { app: "db" } }, template },
      volumeClaimTemplates: [{ metadata: { name: "data" }, spec: claim }],
    };
    const service = { clusterIP: "None", selector: { app: "db" }, ports: [{ port: 8080 }] };
    await apply(
      stack,
      [
        { apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "db" }, spec },
        { apiVersion: "v1", kind: "Service", metadata: { name: "db" }, spec: service },
      ]
        .map((one) => JSON.stringify(one))
        .join("\n---\n"),
    );
    await kubectl("rollout", "status", "statefulset/db", "--timeout=30s");
    const table = await kubectl("get", "pvc", "--no-headers");
    for (const name of ["data-db-0", "data-db-1"]) {
      expect(table).toMatch(new RegExp(`^${name} +Bound +pvc-[0-9a-f-]+ +1Gi +RWO +standard +<unset> `, "m"));
    }
    const starts = async () => {
      const url = "http://db-1.db.default.svc.cluster.local:8080/starts";
      return (await stack.exec("default/db-0", ...curl(url))).out;
    };
    expect(await eventually(starts, (text) => text !== "")).toBe("db-1\n");
    const before = await stack.get("pods", "db-1");
    await kubectl("delete", "pod", "db-1");
    await kubectl("rollout", "status", "statefulset/db", "--timeout=30s");
    const after = await stack.get("pods", "db-1");
    expect(after.metadata.uid).not.toBe(before.metadata.uid);
    expect(after.status.podIP).not.toBe(before.status.podIP);
    expect(await eventually(starts, (text) => text.split("\n").length === 3)).toBe("db-1\ndb-1\n");
  }, 90_000);
});

describe.skipIf(why !== undefined)("workloads as kubectl shows them", () => {
  const stack = new TestStack("work");
  const kubectl = kubectlOf(stack);
  beforeAll(async () => {
    await up(stack, "--nodes", "2");
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);
  const deployment = (name: string, replicas: number) => {
    const template = { metadata: { labels: { app: name } }, spec: { containers: [{ name: "app", image: "web" }] } };
    const spec = { replicas, selector: { matchLabels: { app: name } }, template };
    return JSON.stringify({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name }, spec });
  };

  test("a CronJob: created, run by hand, suspended, described", async () => {
    await kubectl("create", "cronjob", "tick", "--image=example.com/tick", "--schedule=*/5 * * * *");
    expect(await kubectl("get", "cronjob", "tick", "--no-headers")).toMatch(
      /^tick +\*\/5 \* \* \* \* +<none> +False +0 +<none> +\d+s\n$/,
    );
    await kubectl("create", "job", "now", "--from=cronjob/tick");
    await kubectl("wait", "--for=condition=Complete", "job/now", "--timeout=30s");
    await kubectl("patch", "cronjob", "tick", "-p", '{"spec":{"suspend":true,"timeZone":"Asia/Tokyo"}}');
    expect(await kubectl("get", "cronjob", "tick", "--no-headers")).toMatch(/ Asia\/Tokyo +True +0 +<none> /);
    expect(await kubectl("describe", "cronjob", "tick")).toMatch(/Concurrency Policy: +Allow\nSuspend: +True\n/);
    const { err } = await stack.kubectl("create", "cronjob", "bad", "--image=x", "--schedule=60 * * * *");
    expect(err).toContain('spec.schedule: Invalid value: "60 * * * *": end of range (60) above maximum (59): 60');
  }, 60_000);

  test("a PodDisruptionBudget holds drain back until another pod is ready", async () => {
    await apply(stack, deployment("kept", 2));
    await kubectl("rollout", "status", "deployment/kept", "--timeout=30s");
    await kubectl("create", "pdb", "kept", "--selector=app=kept", "--min-available=1");
    const allowed = () => stack.get("poddisruptionbudgets", "kept").then(({ status }) => status.disruptionsAllowed);
    expect(await eventually(allowed, (count) => count === 1)).toBe(1);
    expect(await kubectl("get", "pdb", "kept", "--no-headers")).toMatch(/^kept +1 +N\/A +1 +\d+s\n$/);
    await kubectl("cordon", "node-1");
    expect(await kubectl("get", "node", "node-1", "--no-headers")).toContain("Ready,SchedulingDisabled");
    await kubectl("patch", "pdb", "kept", "-p", '{"spec":{"minAvailable":2}}');
    expect(await eventually(allowed, (count) => count === 0)).toBe(0);
    const drain = ["drain", "node-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force"];
    const held = await stack.kubectl(...drain, "--timeout=2s");
    expect(held.code).not.toBe(0);
    expect(held.err).toContain("Cannot evict pod as it would violate the pod's disruption budget.");
    await kubectl("patch", "pdb", "kept", "-p", '{"spec":{"minAvailable":1}}');
    expect(await kubectl(...drain, "--timeout=40s")).toContain("node/node-1 drained");
    const where = async () => (await stack.list("pods", "-l", "app=kept")).map(({ spec }) => spec.nodeName);
    expect(await eventually(where, (nodes) => nodes.join() === "node-2,node-2")).toEqual(["node-2", "node-2"]);
    expect(await kubectl("uncordon", "node-1")).toBe("node/node-1 uncordoned\n");
  }, 90_000);

  test("a HorizontalPodAutoscaler keeps to its bounds and says what it misses", async () => {
    await apply(stack, deployment("scaled", 1));
    const target = { type: "Utilization", averageUtilization: 80 };
    const spec = {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "scaled" },
      ...{ minReplicas: 2, maxReplicas: 4, metrics: [{ type: "Resource", resource: { name: "cpu", target } }] },
    };
    const hpa = { apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: { name: "scaled" }, spec };
    await kubectl("create", "-f", await file(hpa));
    await eventually(
      () => stack.list("pods", "-l", "app=scaled"),
      (pods) => pods.length === 2,
    );
    const row = () => kubectl("get", "hpa", "scaled", "--no-headers");
    expect(await eventually(row, (text) => / 2 +\d+s/.test(text))).toMatch(
      /^scaled +Deployment\/scaled +cpu: <unknown>\/80% +2 +4 +2 +\d+s\n$/,
    );
    expect(await kubectl("describe", "hpa", "scaled")).toMatch(
      /ScalingActive +False +FailedGetResourceMetric +the HPA was unable to compute the replica count: failed to get cpu utilization/,
    );
  }, 60_000);

  test("kubectl autoscale makes an autoscaler, by whatever version kubectl speaks, and v1 loses nothing of v2", async () => {
    await apply(stack, deployment("auto", 1));
    const made = await kubectl("autoscale", "deployment", "auto", "--min=2", "--max=3", "--cpu-percent=70");
    expect(made).toBe("horizontalpodautoscaler.autoscaling/auto autoscaled\n");
    await eventually(
      () => stack.list("pods", "-l", "app=auto"),
      (pods) => pods.length === 2,
    );
    const get = async (version: string) =>
      JSON.parse(await kubectl("get", `horizontalpodautoscalers.${version}.autoscaling`, "auto", "-o", "json"));
    const scaled = await eventually(
      () => get("v2"),
      ({ status }) => status.conditions?.length > 0,
    );
    const cpu = {
      type: "Resource",
      resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 70 } },
    };
    expect(scaled.spec).toMatchObject({ minReplicas: 2, maxReplicas: 3, metrics: [cpu] });
    const more = {
      metrics: [
        cpu,
        { type: "Pods", pods: { metric: { name: "queue" }, target: { type: "AverageValue", averageValue: "5" } } },
      ],
      behavior: { scaleDown: { stabilizationWindowSeconds: 60 } },
    };
    await kubectl("patch", "hpa", "auto", "--type=merge", "-p", JSON.stringify({ spec: more }));
    const first = await get("v1");
    expect(first.apiVersion).toBe("autoscaling/v1");
    expect(first.spec.targetCPUUtilizationPercentage).toBe(70);
    expect(JSON.parse(first.metadata.annotations["autoscaling.alpha.kubernetes.io/metrics"])).toEqual([
      { type: "Pods", pods: { metricName: "queue", targetAverageValue: "5" } },
    ]);
    expect(first.metadata.annotations["autoscaling.alpha.kubernetes.io/behavior"]).toContain(
      '"StabilizationWindowSeconds":60',
    );
    expect(first.metadata.annotations["autoscaling.alpha.kubernetes.io/conditions"]).toContain("AbleToScale");
    // Written back as v1 with another bound, the rest stays.
    await kubectl("replace", "-f", await file({ ...first, spec: { ...first.spec, maxReplicas: 5 } }));
    const second = await get("v2");
    expect(second.spec.maxReplicas).toBe(5);
    expect(second.spec.metrics).toEqual(expect.arrayContaining(more.metrics));
    expect(second.spec.behavior.scaleDown.stabilizationWindowSeconds).toBe(60);
    expect(second.metadata.annotations ?? {}).toEqual({});
    expect(second.status.conditions).toEqual(
      expect.arrayContaining([expect.objectContaining({ type: "AbleToScale" })]),
    );
    expect(await kubectl("get", "horizontalpodautoscalers.v1.autoscaling", "auto", "--no-headers")).toMatch(
      /cpu: <unknown>\/70%/,
    );
  }, 60_000);

  test("a pod that asks for more than a node has stays Pending with the scheduler's reason", async () => {
    const resources = { requests: { cpu: "1000" } };
    const spec = { containers: [{ name: "app", image: "web", resources }] };
    await kubectl("create", "-f", await file({ apiVersion: "v1", kind: "Pod", metadata: { name: "huge" }, spec }));
    const text = await eventually(
      () => kubectl("describe", "pod", "huge"),
      (one) => one.includes("FailedScheduling"),
    );
    expect(text).toContain(
      "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
    );
  }, 30_000);

  async function file(object: object): Promise<string> {
    const path = `${stack.home}/object.json`;
    await Bun.write(path, JSON.stringify(object));
    return path;
  }
});
