import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ClientHttp2Session, connect } from "node:http2";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ContainerLog } from "./container-log.ts";
import { HttpPort } from "./http-port.ts";
import type { StandInPod } from "./protocol.ts";

const address = "127.244.202.1";
const port = 18082;
const pod: StandInPod = {
  ...{ uid: "u", namespace: "shop", name: "cart-1", node: "node-1", serviceAccount: "cart" },
  ...{ labels: {}, addresses: [address], listenAddresses: [address], containers: [] },
};
const options = { pod, container: "app", port: 80, listenPort: port, log: new ContainerLog("/dev/null") };
const origin = `http://${address}:${port}`;

let standIn: HttpPort;
beforeAll(() => {
  standIn = new HttpPort(options);
});
afterAll(() => standIn.close());

interface Answer {
  status: number | undefined;
  headers: Record<string, unknown>;
  body: string;
}

function ask(session: ClientHttp2Session, headers: Record<string, string>, body = ""): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers);
    let answer: Answer = { status: undefined, headers: {}, body: "" };
    stream.on("response", (all) => {
      answer = { ...answer, status: all[":status"], headers: { ...all } };
    });
    stream.on("data", (chunk: Buffer) => {
      answer.body += chunk.toString();
    });
    stream.on("end", () => resolve(answer));
    stream.on("error", reject);
    stream.end(body);
  });
}

describe("a stand-in over HTTP/2", () => {
  test("answers on the port of HTTP/1.1, also when the preface comes in pieces", async () => {
    const one = await fetch(`${origin}/one`);
    expect(await one.json()).toMatchObject({ proto: "HTTP/1.1", path: "/one" });
    const session = connect(origin);
    const headers = { ":method": "POST", ":path": "/two?x=1", "x-a": "b" };
    const [first, second] = await Promise.all([ask(session, headers, "grün"), ask(session, { ":path": "/three" })]);
    expect(first).toMatchObject({ status: 200, headers: { "content-type": "application/json" } });
    expect(JSON.parse(first.body)).toMatchObject({
      ...{ pod: "cart-1", namespace: "shop", method: "POST", path: "/two?x=1", query: { x: ["1"] }, proto: "HTTP/2.0" },
      ...{ host: `${address}:${port}`, headers: { "x-a": ["b"] }, body: { length: 5, text: "grün" }, local: address },
    });
    expect(JSON.parse(second.body)).toMatchObject({ path: "/three" });
    session.close();
    const pieces = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1");
    const settings = await new Promise<Buffer>((resolve) => {
      void Bun.connect({
        ...{ hostname: address, port },
        socket: {
          async open(socket) {
            for (const byte of pieces) {
              socket.write(Buffer.from([byte]));
              await Promise.resolve();
            }
          },
          data(socket, chunk) {
            resolve(Buffer.from(chunk));
            socket.end();
          },
        },
      });
    });
    // SETTINGS is what a server begins with.
    expect(settings[3]).toBe(4);
  });

  test("gives the status, size and headers that are asked for, and breaks off what is to be", async () => {
    const session = connect(origin);
    const answer = await ask(session, { ":path": "/", "x-stand-in": "status=503, size=300000, header=Retry-After: 7" });
    expect([answer.status, answer.headers["retry-after"], answer.body.length]).toEqual([503, "7", 300_000]);
    expect(await ask(session, { ":path": "/", "x-stand-in": "colour=red" })).toMatchObject({ status: 400 });
    expect((await ask(session, { ":path": "/?delay=20ms" })).status).toBe(200);
    const gone = new Promise((resolve) => session.on("close", resolve));
    session.on("error", () => {});
    const aborted = session.request({ ":path": "/?abort" });
    aborted.on("error", () => {});
    aborted.end();
    await gone;
  });
});

describe("a stand-in of gRPC", () => {
  const same = (bytes: Buffer) => bytes;
  let client: Client;
  beforeAll(() => {
    client = new Client(`${address}:${port}`, credentials.createInsecure());
  });
  afterAll(() => client.close());

  function unary(path: string, metadata: Record<string, string> = {}): Promise<Buffer> {
    const all = new Metadata();
    for (const [name, value] of Object.entries(metadata)) all.set(name, value);
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, same, same, Buffer.alloc(0), all, (error, value) =>
        error ? reject(error) : resolve(value!),
      );
    });
  }
  const code = (call: Promise<unknown>) =>
    call.then(
      () => status.OK,
      (error: ServiceError) => error.code,
    );
  const echo = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/";

  test("is well, and says so to who watches until it ends", async () => {
    expect((await unary("/grpc.health.v1.Health/Check")).toString("hex")).toBe("0801");
    const own = new HttpPort({ ...options, listenPort: port + 1 });
    const watcher = new Client(`${address}:${port + 1}`, credentials.createInsecure());
    const seen: string[] = [];
    const ended = new Promise<number>((resolve) => {
      const stream = watcher.makeServerStreamRequest("/grpc.health.v1.Health/Watch", same, same, Buffer.alloc(0));
      stream.on("data", (message: Buffer) => {
        seen.push(message.toString("hex"));
        if (seen.length > 1) return;
        own.drain();
        own.stopAccepting();
      });
      stream.on("error", (error: ServiceError) => resolve(error.code));
    });
    expect(await ended).toBe(status.UNAVAILABLE);
    expect(seen).toEqual(["0801", "0802"]);
    watcher.close();
    while (own.connections.size > 0) await Bun.sleep(5);
    own.close();
  });

  test("echoes as Gateway API's conformance tests have it", async () => {
    const text = (await unary(`${echo}Echo`, { "x-test": "yes" })).toString("latin1");
    for (const part of [`${echo}Echo`, "x-test\x12\x03yes", `${address}:${port}`, "\x0a\x04shop\x22\x06cart-1"])
      expect(text).toContain(part);
    expect(await code(unary(`${echo}EchoThree`))).toBe(status.UNIMPLEMENTED);
    expect(await code(unary("/other.Service/Method"))).toBe(status.UNIMPLEMENTED);
  });

  test("answers with the code that is asked for", async () => {
    expect(await code(unary(`${echo}Echo`, { "x-stand-in": "grpc-status=8" }))).toBe(status.RESOURCE_EXHAUSTED);
    expect(await code(unary(`${echo}Echo`, { "x-stand-in": "status=503" }))).toBe(status.UNAVAILABLE);
    expect(await code(unary(`${echo}Echo`, { "x-stand-in": "delay=20ms" }))).toBe(status.OK);
  });
});
