import { afterAll, expect, test } from "bun:test";
import { type Listener, listen } from "../apiserver/listen.ts";
import { UserError } from "../base/errors.ts";
import { silentLogger } from "../base/log.ts";
import { createAuthority } from "../identity/authority.ts";

const address = "127.0.0.1";
const authority = await createAuthority("listen test");
const { certificate, privateKey } = await authority.issueServer([address]);
const tls = { key: privateKey, cert: certificate, clientCa: authority.certificate };
const open: Listener[] = [];
const listenAt = async (port: number | readonly number[]) => {
  const listener = await listen({ tls, address, port, log: silentLogger }, (_, response) => response.end("here"));
  open.push(listener);
  return listener;
};
afterAll(() => Promise.all(open.map((listener) => listener.stop())));

const ask = async (port: number) =>
  await (await fetch(`https://${address}:${port}/`, { tls: { ca: authority.certificate } })).text();

test("of several ports the first that is free is taken, also by two that start at once", async () => {
  const first = await listenAt(0);
  const others = await Promise.all([listenAt([first.port, 0]), listenAt([first.port, 0])]);
  const ports = [first, ...others].map(({ port }) => port);
  expect(new Set(ports).size).toBe(3);
  for (const port of ports) expect(await ask(port)).toBe("here");
});

test("a port that somebody has is named, with how to find who", async () => {
  const { port } = await listenAt(0);
  const error = await listenAt([port]).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(UserError);
  expect((error as UserError).message).toBe(`the API server cannot listen on ${address}:${port}: the port is taken`);
  expect((error as UserError).remedy).toContain(`ss -ltnp 'sport = :${port}'`);
});
