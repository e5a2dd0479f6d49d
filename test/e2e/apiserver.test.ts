// The API server over the wire: who gets in, what is refused how, watches and what becomes of them, logs, and the remote
// engine against it. The recorded answers of the real server are replayed where the checkout has them beside it.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import type { KubeObject } from "../../src/api/object.ts";
import type { PodLogOptions } from "../../src/apiserver/pod-logs.ts";
import { disposable } from "../../src/base/disposal.ts";
import { readKubeconfig } from "../../src/store/remote/kubeconfig.ts";
import { openRemoteStore } from "../../src/store/remote/remote-store.ts";
import type { StoreEvent } from "../../src/store/store.ts";
import { type ApiStack, kubeconfigFor, startApiStack } from "./api-stack.ts";

const logs: { options?: PodLogOptions; write?: (text: string) => void; disposed: boolean } = { disposed: false };
setDefaultTimeout(60_000);

let stack: ApiStack;
let ca: string;
let admin: { cert: string; key: string };

beforeAll(async () => {
  stack = await startApiStack({
    tokens: [
      { token: "viewer-token", user: "viewer" },
      { token: "root-token", user: "root", groups: ["system:masters"] },
    ],
    podLogs: {
      open(_pod, options, sink) {
        logs.options = options;
        logs.write = (text) => void sink.write(text);
        sink.write("first\n");
        if (!options.follow) sink.end();
        return disposable(() => {
          logs.disposed = true;
        });
      },
    },
  });
  ca = readFileSync(stack.ca, "utf8");
  const read = (name: string) => readFileSync(join(stack.folder, name), "utf8");
  admin = { cert: read("admin.crt"), key: read("admin.key") };
});
afterAll(() => stack.stop());

interface Call {
  readonly method?: string;
  readonly token?: string;
  readonly anonymous?: boolean;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

async function send(path: string, call: Call = {}): Promise<Response> {
  const { token, anonymous, body } = call;
  return fetch(stack.url + path, {
    method: call.method ?? (body === undefined ? "GET" : "POST"),
    headers: {
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...call.headers,
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    ...(call.signal ? { signal: call.signal } : {}),
    tls: { ca, ...(token || anonymous ? {} : admin) },
  });
}
const json = async (path: string, call?: Call): Promise<any> => (await send(path, call)).json();
const configMaps = "/api/v1/namespaces/default/configmaps";
const configMap = (name: string, more: object = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...more },
});

async function until(holds: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (holds()) return;
    await Bun.sleep(10);
  }
  throw new Error(`it did not happen within 5 s: ${what}`);
}

describe("who gets in", () => {
  test("without an identity there is health and the version, and nothing else", async () => {
    expect(await (await send("/healthz", { anonymous: true })).text()).toBe("ok");
    expect((await json("/version", { anonymous: true })).gitVersion).toStartWith("v1.36.");
    expect(await json("/api/v1/namespaces", { anonymous: true })).toEqual({
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: "Unauthorized",
      reason: "Unauthorized",
      code: 401,
    });
    expect((await send("/api/v1/namespaces", { token: "wrong" })).status).toBe(401);
    expect((await send("/api/v1/namespaces", { token: "root-token" })).status).toBe(200);
  });

  test("a token's user may do what a binding says, where it says it", async () => {
    const secrets = "/api/v1/namespaces/default/secrets";
    expect(await json(secrets, { token: "viewer-token" })).toMatchObject({
      message:
        'secrets is forbidden: User "viewer" cannot list resource "secrets" in API group "" in the namespace "default"',
      reason: "Forbidden",
      details: { kind: "secrets" },
      code: 403,
    });
    const made = await json("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", {
      body: {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "RoleBinding",
        metadata: { name: "viewers" },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "view" },
        subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "viewer" }],
      },
    });
    expect(made.kind).toBe("RoleBinding");
    expect((await send(configMaps, { token: "viewer-token" })).status).toBe(200);
    expect((await send(configMaps, { token: "viewer-token", body: configMap("no") })).status).toBe(403);
    expect((await send("/api/v1/namespaces/kube-system/configmaps", { token: "viewer-token" })).status).toBe(403);
    expect((await send("/apis", { token: "viewer-token" })).status).toBe(200);
  });

  test("an administrator may act as somebody else, others may not", async () => {
    const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
    const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    const as = { "impersonate-user": "jane", "impersonate-group": "devs" };
    const { status } = await json(path, { body: review, headers: as });
    expect(status.userInfo).toEqual({ username: "jane", groups: ["devs", "system:authenticated"] });
    expect((await send(path, { body: review, headers: as, token: "viewer-token" })).status).toBe(403);
  });
});

describe("what is refused", () => {
  test("a body of more than 3 MiB", async () => {
    const answer = await send(configMaps, { body: "x".repeat(3 * 1024 * 1024 + 1) });
    expect([answer.status, ((await answer.json()) as { reason: string }).reason]).toEqual([
      413,
      "RequestEntityTooLarge",
    ]);
  });

  test("a misspelt field, when the client asks for strictness, and otherwise it is warned of", async () => {
    const body = { ...configMap("misspelt"), dta: {} };
    const strict = await json(`${configMaps}?fieldValidation=Strict`, { body });
    expect(strict.message).toContain('strict decoding error: unknown field "dta"');
    const warned = await send(configMaps, { body });
    expect(warned.headers.get("warning")).toBe('299 - "unknown field \\"dta\\""');
  });

  test("methods, subresources and paths that are not there", async () => {
    expect((await send(configMaps, { method: "PUT", body: configMap("a") })).status).toBe(405);
    expect((await send(`${configMaps}/misspelt/status`)).status).toBe(404);
    expect((await send("/api/v1/namespaces/default/nodes")).status).toBe(404);
    expect((await send("/apis/nope/v1/things")).status).toBe(404);
    expect((await send("/api/v1/namespaces/default/pods/a/exec", { method: "POST" })).status).toBe(501);
    expect((await send("/api/v1/%zz")).status).toBe(400);
  });
});

/** The events of a watch, as they come. */
function watch(query: string, path = configMaps) {
  const abort = new AbortController();
  const events: any[] = [];
  const done = (async () => {
    const answer = await send(`${path}?watch=true&${query}`, { signal: abort.signal });
    let rest = "";
    for await (const chunk of answer.body!) {
      rest += Buffer.from(chunk).toString();
      const lines = rest.split("\n");
      rest = lines.pop()!;
      for (const line of lines) events.push(JSON.parse(line));
    }
  })().catch(() => {});
  return { events, done, stop: () => abort.abort() };
}

describe("watches", () => {
  test("send the present state first when asked, and say where it ends", async () => {
    await json(configMaps, { body: configMap("w1", { labels: { w: "1" } }) });
    const query =
      "labelSelector=w%3D1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    const { events, stop } = watch(query);
    await until(() => events.length === 2, "two events");
    expect(events.map((one) => one.type)).toEqual(["ADDED", "BOOKMARK"]);
    expect(events[1].object.metadata.annotations).toEqual({ "k8s.io/initial-events-end": "true" });
    await json(configMaps, { body: configMap("w2", { labels: { w: "1" } }) });
    await until(() => events.length === 3, "an event after the bookmark");
    expect(events[2].object.metadata.name).toBe("w2");
    stop();
  });

  test("end when their client goes, and when their time is over", async () => {
    await until(() => stack.store.watching === 0, "no watch from the tests before");
    const { stop } = watch("");
    await until(() => stack.store.watching === 1, "the watch runs");
    stop();
    await until(() => stack.store.watching === 0, "the watch has ended with its client");
    const timed = watch("timeoutSeconds=1");
    await timed.done;
    await until(() => stack.store.watching === 0, "the watch has ended by itself");
  });

  test("of a client that does not read are given up instead of kept in memory", async () => {
    const url = new URL(stack.url);
    const socket = connect({ host: url.hostname, port: Number(url.port), ca, ...admin });
    await new Promise<void>((resolve) => socket.once("secureConnect", () => resolve()));
    socket.on("error", () => {});
    socket.pause();
    socket.write(`GET ${configMaps}?watch=true HTTP/1.1\r\nhost: x\r\n\r\n`);
    await until(() => stack.store.watching === 1, "the watch runs");
    const resource = stack.store.scheme.byKey("configmaps")!;
    const key = { resource, namespace: "default", name: "w1" };
    for (let i = 0; i < 400 && stack.store.watching > 0; i++) {
      await stack.store.patch(key, { type: "merge", body: { data: { filler: `${i}`.padEnd(100_000, "x") } } });
      await Bun.sleep(0);
    }
    expect(stack.store.watching).toBe(0);
    socket.destroy();
  }, 20_000);

  test("of a kind end when the kind goes", async () => {
    const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    await json(definitions, {
      body: {
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: "toys.example.com" },
        spec: {
          group: "example.com",
          scope: "Namespaced",
          names: { plural: "toys", singular: "toy", kind: "Toy" },
          versions: [
            { name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } },
            { name: "v1beta1", served: true, storage: false, schema: { openAPIV3Schema: { type: "object" } } },
          ],
        },
      },
    });
    const toys = "/apis/example.com/v1beta1/namespaces/default/toys";
    await json(toys, { body: { apiVersion: "example.com/v1beta1", kind: "Toy", metadata: { name: "bear" } } });
    const other = await json("/apis/example.com/v1/namespaces/default/toys/bear");
    expect(other.apiVersion).toBe("example.com/v1");
    const { events, done } = watch("", toys);
    await until(() => events.length === 1, "the toy is seen");
    expect(events[0].object.apiVersion).toBe("example.com/v1beta1");
    await send(`${definitions}/toys.example.com`, { method: "DELETE" });
    await done;
    expect((await send(toys)).status).toBe(404);
  });
});

describe("logs of pods", () => {
  const pods = "/api/v1/namespaces/default/pods";
  beforeAll(async () => {
    const spec = { nodeName: "node-1", containers: [{ name: "app", image: "x" }] };
    await json(pods, { body: { apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec } });
  });

  test("come from the node, with what the client asked for", async () => {
    const text = await (await send(`${pods}/p/log?tailLines=5&timestamps=true&limitBytes=100`)).text();
    expect(text).toBe("first\n");
    expect(logs.options).toMatchObject({
      container: "app",
      tailLines: 5,
      timestamps: true,
      limitBytes: 100,
      follow: false,
    });
    expect((await json(`${pods}/p/log?container=nope`)).message).toBe("container nope is not valid for pod p");
  });

  test("can be followed, and end with the client", async () => {
    logs.disposed = false;
    const abort = new AbortController();
    const answer = await send(`${pods}/p/log?follow=true`, { signal: abort.signal });
    const reader = answer.body!.getReader();
    expect(Buffer.from((await reader.read()).value!).toString()).toBe("first\n");
    logs.write!("second\n");
    expect(Buffer.from((await reader.read()).value!).toString()).toBe("second\n");
    abort.abort();
    await until(() => logs.disposed, "the reading has stopped");
  });
});

describe("the remote engine", () => {
  test("reads, writes and watches, and goes on when the server comes back", async () => {
    const own = await startApiStack({ folder: mkdtempSync(join(tmpdir(), "fl-t-api-")) });
    const port = Number(new URL(own.url).port);
    const store = await openRemoteStore({ connection: readKubeconfig(own.kubeconfig), userAgent: "fl-t" });
    const resource = store.resources().find((one) => one.plural === "configmaps")!;
    const object = (name: string): KubeObject => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace: "default" },
    });
    const key = (name: string) => ({ resource, namespace: "default", name });
    const { resourceVersion } = await store.list(resource);
    const seen: string[] = [];
    const on = (event: StoreEvent) => {
      if (event.type !== "BOOKMARK") seen.push(`${event.type} ${event.object.metadata.name}`);
    };
    const watching = store.watch(resource, resourceVersion, on, { namespace: "default" });
    const made = await store.create(resource, object("a"));
    expect(Object.isFrozen(made)).toBe(true);
    await store.patch(key("a"), { type: "apply", body: { ...object("a"), data: { k: "v" } }, fieldManager: "t" });
    expect((await store.get(key("a")))?.["data"]).toEqual({ k: "v" });
    await until(() => seen.length === 2, "two events");

    await own.stop();
    const again = await startApiStack({ folder: own.folder, port, keepAuthority: true });
    const local = again.store.scheme.byKey("configmaps")!;
    await again.store.create(local, object("b"));
    await until(() => seen.length === 3, "the event from after the restart");
    await store.delete(key("b"));
    await until(() => seen.length === 4, "the deletion");
    expect(seen).toEqual(["ADDED a", "MODIFIED a", "ADDED b", "DELETED b"]);
    expect(await store.get(key("b"))).toBeUndefined();
    await expect(store.create(resource, object("a"))).rejects.toThrow('configmaps "a" already exists');
    watching.dispose();
    await again.stop();
  }, 20_000);

  test("says what is wrong with a kubeconfig", async () => {
    const path = join(stack.folder, "broken");
    const config = JSON.parse(kubeconfigFor(stack.url, stack.folder, { cert: "nope.crt", key: "nope.key" }));
    writeFileSync(path, JSON.stringify(config));
    expect(() => readKubeconfig(path)).toThrow(/^kubeconfig .*broken: client-certificate: ENOENT/);
    config.users[0].user = { exec: { command: "aws" } };
    writeFileSync(path, JSON.stringify(config));
    expect(() => readKubeconfig(path)).toThrow("gets its credentials from exec (aws), which is not supported");
    const connection = { ...readKubeconfig(stack.kubeconfig), server: "https://127.0.0.1:1" };
    await expect(openRemoteStore({ connection })).rejects.toThrow(
      "the API server at https://127.0.0.1:1 does not answer",
    );
  });
});

const acceptance = join(import.meta.dir, "../../../shared/acceptance/api/replay.mjs");
if (!existsSync(acceptance))
  console.log("apiserver: the recorded answers are not beside this checkout and are not replayed");

test.skipIf(!existsSync(acceptance))(
  "the recorded answers of the real server are the same here",
  async () => {
    const own = await startApiStack();
    const replay = Bun.spawn(["node", acceptance, "--kubeconfig", own.kubeconfig, "-v"], { stdout: "pipe" });
    const output = await new Response(replay.stdout).text();
    await replay.exited;
    await own.stop();
    expect(output.trim().split("\n").at(-1)).toMatch(/^\d+ passed, 0 failed$/);
  },
  60_000,
);
