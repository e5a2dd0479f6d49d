// The admin interface of a composition while its workers come and go.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serveCombinedAdmin } from "./combined-server.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-admin-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sample = '# HELP a_total As.\n# TYPE a_total counter\na_total{route="x"} 2\n';

/** A worker's admin socket that sends a text and ends, or is cut off behind the half of it. */
function worker(name: string, text: string, dies = false) {
  const admin = join(folder, name);
  const listener = Bun.listen({
    unix: admin,
    socket: {
      data(socket) {
        const head = `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${text.length}\r\n\r\n`;
        socket.write(head + (dies ? text.slice(0, text.length / 2) : text));
        if (dies) socket.end();
      },
    },
  });
  return { admin, stop: () => listener.stop(true) };
}

test("a worker that ends while it answers is left out; where none is there the answer is 503", async () => {
  const all = [worker("one", sample), worker("two", sample), worker("three", sample, true)];
  const path = join(folder, "all");
  const workers = [...all, { admin: join(folder, "being-started") }];
  const server = serveCombinedAdmin({ path, name: "test", workers, drain() {} });
  const get = (what: string) => fetch(`http://proxy${what}`, { unix: path });
  const scraped = await get("/metrics");
  expect(scraped.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await scraped.text()).toBe(sample.replace("2", "4"));
  expect(await (await get("/routes")).text()).toBe(sample);
  for (const one of all) one.stop();
  for (const what of ["/metrics", "/routes", "/status", "/healthz"]) expect((await get(what)).status).toBe(503);
  server.stop();
});
