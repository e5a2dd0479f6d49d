// What a policy says of a client cannot be said by that client: not by a name that a backend takes for the same (`x_user`), not in
// trailers, not by taking the field away with Connection, not by a second token. By raw bytes both ways. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { Filter } from "../../src/model/model.ts";
import { ends, port, serve, server, setUp, tearDown } from "./policy-stack.ts";
import { from } from "./proxy-harness.ts";
import { exchange, rawBackend } from "./proxy-raw.ts";

beforeEach(setUp);
afterEach(tearDown);

/** A backend that takes one request with a chunked body on each connection. */
function recorder() {
  const seen: string[] = [];
  const made = rawBackend((socket, text) => {
    if (!/\r\n0\r\n(.+\r\n)*\r\n$/.test(text)) return;
    seen.push(text);
    socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
  });
  ends.push(made.stop);
  return { port: made.port, seen };
}

/** Says as much as it can under names that are the policy's. */
const forged = [
  "X-User: eve",
  "x_user: eve",
  "X_USER: eve",
  "x-role: admin",
  "x_role: admin",
  "x_token: eve",
  "connection: close, x-user, x-role",
];
const inTrailers = [
  "x-user: eve",
  "x_user: eve",
  "x-role: admin",
  "authorization: Basic ZXZlOmV2ZQ==",
  "x-token: eve",
  "x-sum: 1",
];

async function say(fields: readonly string[], target = "/"): Promise<string> {
  const head = [`POST ${target} HTTP/1.1`, "host: a", "transfer-encoding: chunked", ...fields, ...forged].join("\r\n");
  const answer = await exchange(port, `${head}\r\n\r\n2\r\nhi\r\n0\r\n${inTrailers.join("\r\n")}\r\n\r\n`);
  return answer.slice(0, 12);
}

/** What it got of the names in question, one line each. */
const told = (text: string) =>
  (text.match(/^(x.(user|role|token|sum)|authorization): .*$/gim) ?? []).map((line) => line.toLowerCase());

describe("what a policy says of a client is not said by the client", () => {
  test("by basic auth", async () => {
    const hash = createHash("sha1").update("secret").digest("base64");
    const content = { kind: "users", lines: `ann:{SHA}${hash}` };
    const users = { name: "users", from, fingerprint: "00".repeat(32), content };
    const main = recorder();
    await serve([{ kind: "basicAuth", from, realm: "shop", users: "users", userHeader: "x-user" }], main, {}, {}, [
      users,
    ]);
    expect(await say([`authorization: Basic ${btoa("ann:secret")}`])).toBe("HTTP/1.1 200");
    expect(told(main.seen[0]!)).toEqual([
      "x_role: admin",
      "x_token: eve",
      "x-user: ann",
      "x-role: admin",
      "x-token: eve",
      "x-sum: 1",
    ]);
  });

  test("by external authorization over HTTP", async () => {
    const auth = server(() => new Response("", { headers: { "x-user": "ann" } }));
    const main = recorder();
    const filter: Filter = {
      kind: "externalAuth",
      from,
      service: "auth",
      protocol: { kind: "http", authority: "auth", path: "/", prefix: false, method: "GET" },
      sends: [],
      adds: [],
      body: { bytes: 0, partial: false },
      toBackend: ["x-user", "x-role"],
      toClient: [],
      timeout: 5000,
      whenFailing: { status: 503 },
    };
    await serve([filter], main, { auth });
    expect(await say([])).toBe("HTTP/1.1 200");
    expect(told(main.seen[0]!)).toEqual(["x_token: eve", "x-user: ann", "x-token: eve", "x-sum: 1"]);
  });

  test("by a token, of which there is only one good one", async () => {
    const pair = await generateKeyPair("ES256");
    const keys = JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: "k", alg: "ES256" }] });
    const main = recorder();
    const filter: Filter = {
      kind: "jwt",
      from,
      optional: false,
      providers: [
        {
          name: "issuer",
          issuer: "issuer",
          audiences: [],
          keys: { inline: keys },
          places: [
            { kind: "header", name: "x-token", prefix: "" },
            { kind: "query", name: "token" },
            { kind: "cookie", name: "token" },
          ],
          forward: true,
          claimHeaders: [
            { claim: "sub", header: "x-user" },
            { claim: "role", header: "x-role" },
          ],
        },
      ],
    };
    await serve([filter], main);
    const token = await new SignJWT({ iss: "issuer", sub: "ann" })
      .setProtectedHeader({ alg: "ES256", kid: "k" })
      .setExpirationTime("5m")
      .sign(pair.privateKey);
    const [head, body] = token.split(".");
    const bad = `${head}.${body}.${Buffer.alloc(64).toString("base64url")}`;
    expect(await say([`x-token: ${token}`])).toBe("HTTP/1.1 200");
    expect(told(main.seen[0]!)).toEqual([
      `x-token: ${token}`.toLowerCase(),
      "x-user: ann",
      "authorization: basic zxzlomv2zq==",
      "x-sum: 1",
    ]);
    expect(await say([], `/?token=${token}&other=1`)).toBe("HTTP/1.1 200");
    expect(await say([`cookie: a=b; token=${token}`])).toBe("HTTP/1.1 200");
    // A good one in front of a bad one does not help: a backend may take the last.
    for (const [fields, target] of [
      [[`x-token: ${token}`, `x-token: ${bad}`], "/"],
      [[], `/?token=${token}&token=${bad}`],
      [[], `/?token=${token}&tok%65n=${bad}`],
      [[`cookie: token=${token}; token=${bad}`], "/"],
      [[`cookie: token=${token}`, `cookie: token=${bad}`], "/"],
      [[`x-token: ${token}`], `/?token=${bad}`],
    ] as const)
      expect(await say(fields, target)).toBe("HTTP/1.1 401");
    expect(main.seen.length).toBe(3);
  });
});
