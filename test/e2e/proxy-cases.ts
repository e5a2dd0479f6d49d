// A proxy before backends that say what they were asked, or bytes that they are told: what tests of the proxy program as a whole
// (`proxy-routing`, `proxy-http1`, `proxy-upstream`, `proxy-configuration`) begin with. A proxy, a port and backends are a test's own.

import { expect } from "bun:test";
import type { Backend } from "../../src/model/model.ts";
import { eachTest } from "./each-test.ts";
import { backend, endpoints, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { rawBackend } from "./proxy-raw.ts";

export let proxy: ProxyUnderTest;
export let port: number;
/** What is called after the test. */
export let ends: (() => unknown)[];

/** To be called once by a file: each of its tests gets all of these anew; the proxy is not started. */
export function eachProxyTest(): void {
  const own = eachTest((fresh, free) => {
    proxy = fresh;
    port = free;
    ends = own;
  });
}

/** Puts a fresh proxy in the place of the first. */
export async function another(): Promise<void> {
  await proxy.stop();
  const fresh = new ProxyUnderTest();
  ends.push(() => fresh.stop());
  proxy = fresh;
}

/** A backend that says its name, and what it was asked. */
export function echo(name: string): number {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const url = new URL(request.url);
      return Response.json({
        name,
        method: request.method,
        path: url.pathname + url.search,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      });
    },
  });
  ends.push(() => server.stop(true));
  return server.port!;
}

/** A backend that answers every request head with fixed bytes. */
export function answering(bytes: string, more: { close?: boolean } = {}): ReturnType<typeof rawBackend> {
  const backend = rawBackend((socket, text) => {
    if (!text.includes("\r\n\r\n")) return;
    socket.data.text = "";
    socket.write(Buffer.from(bytes, "latin1"));
    if (more.close) socket.end();
  });
  ends.push(backend.stop);
  return backend;
}

export interface Seen {
  name: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}

export async function serve(
  ports: readonly number[],
  rules = [rule("all")],
  more: Partial<Backend> = {},
): Promise<void> {
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [backend("one", more)],
    endpoints: [endpoints("one", ...ports)],
    routeTables: [routeTable(rules)],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
}

export const url = (path = "/") => `http://127.0.0.1:${port}${path}`;
export const request = (path = "/", ...fields: string[]) =>
  `GET ${path} HTTP/1.1\r\nhost: a\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;

/** Waits for a condition, asking again and again. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const patience = Date.now() + 5_000;
  while (!(await holds())) {
    if (Date.now() > patience) throw new Error("what the test waits for did not happen within 5 s");
    await Bun.sleep(5);
  }
}
