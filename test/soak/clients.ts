// The clients of a soak. Each function is one piece of work that should succeed (it throws when it does not, and says how many
// requests it was), or rudeness of which only the proxy's survival is asked.

import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { big, echoService } from "./servers.ts";

/** Where one proxy listens. */
export interface Ports {
  readonly plain: number;
  readonly secure: number;
  readonly tcp: number;
  readonly udp: number;
}

const patience = 30_000;

function check(ok: boolean, what: string): void {
  if (!ok) throw new Error(what);
}

async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${patience} ms`)), patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const insecure = { tls: { rejectUnauthorized: false } };

async function asked(url: string, init: RequestInit, expected: string): Promise<void> {
  const response = await fetch(url, { ...init, ...insecure, signal: AbortSignal.timeout(patience) } as RequestInit);
  const text = await response.text();
  check(response.status === 200 && text === expected, `${response.status} ${text.slice(0, 100)}`);
}

export async function get({ plain }: Ports): Promise<number> {
  await asked(`http://127.0.0.1:${plain}/small`, {}, "GET 0");
  return 1;
}

export async function getOverTls({ secure }: Ports): Promise<number> {
  await asked(`https://127.0.0.1:${secure}/small`, {}, "GET 0");
  return 1;
}

export async function post({ plain }: Ports): Promise<number> {
  const size = Math.floor(Math.random() * 200_000);
  await asked(`http://127.0.0.1:${plain}/post`, { method: "POST", body: new Uint8Array(size) }, `POST ${size}`);
  return 1;
}

export async function download({ plain }: Ports): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${plain}/big`, { signal: AbortSignal.timeout(patience) });
  const body = await response.bytes();
  check(response.status === 200 && body.length === big.length, `${response.status}, ${body.length} bytes`);
  return 1;
}

/** Twenty echoes, each a request. */
export async function webSocket({ plain }: Ports): Promise<number> {
  const socket = new WebSocket(`ws://127.0.0.1:${plain}/socket`);
  try {
    await within(
      "echo",
      new Promise<void>((resolve, reject) => {
        let echoes = 0;
        socket.onopen = () => socket.send("hello");
        socket.onmessage = ({ data }) => {
          if (data !== "hello") reject(new Error(`it said ${String(data)}`));
          else if (++echoes === 20) resolve();
          else socket.send("hello");
        };
        socket.onerror = () => reject(new Error("error"));
        socket.onclose = ({ code }) => reject(new Error(`closed early with ${code}`));
      }),
    );
    return 20;
  } finally {
    socket.close();
  }
}

/** A connection with ten requests at a time, until it has had 500 or is told to go. */
async function session(connection: http2.ClientHttp2Session): Promise<number> {
  let goes = false;
  let done = 0;
  connection.on("error", () => {});
  connection.on("goaway", () => {
    goes = true;
  });
  try {
    await within(
      "connection",
      new Promise<void>((resolve, reject) => {
        connection.once("connect", () => resolve());
        connection.once("error", reject);
      }),
    );
    while (done < 500 && !goes) {
      await within("answers", Promise.all(Array.from({ length: 10 }, () => stream(connection))));
      done += 10;
    }
    return done;
  } finally {
    connection.close();
  }
}

function stream(connection: http2.ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    const one = connection.request({ ":method": "POST", ":path": "/stream" });
    let status = 0;
    let text = "";
    one.on("response", (headers) => {
      status = Number(headers[":status"]);
    });
    one.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    one.on("error", reject);
    one.on("end", () => (status === 200 && text === "POST 5" ? resolve() : reject(new Error(`${status} ${text}`))));
    one.end("hello");
  });
}

export const http2OverTls = ({ secure }: Ports) =>
  session(http2.connect(`https://localhost:${secure}`, { rejectUnauthorized: false }));
export const http2Plain = ({ plain }: Ports) => session(http2.connect(`http://127.0.0.1:${plain}`));

const GrpcClient = grpc.makeGenericClientConstructor(echoService, "Echo");

/** Calls over one channel, which makes connections anew by itself: 20 by themselves, and a conversation of 10. */
export function grpcClient({ plain }: Ports): { work: () => Promise<number>; close: () => void } {
  const client = new GrpcClient(`127.0.0.1:${plain}`, grpc.credentials.createInsecure()) as any;
  const unary = () =>
    new Promise<void>((resolve, reject) => {
      const deadline = Date.now() + patience;
      client.unary(Buffer.from("hello"), { deadline }, (error: Error | null, bytes?: Buffer) => {
        if (error) reject(error);
        else resolve(check(bytes?.toString() === "hello", `it said ${bytes}`));
      });
    });
  const chat = () =>
    new Promise<void>((resolve, reject) => {
      const call = client.chat({ deadline: Date.now() + patience });
      let said = 0;
      call.on("data", () => (++said < 10 ? call.write(Buffer.from("x")) : call.end()));
      call.on("end", () => (said === 10 ? resolve() : reject(new Error(`${said} answers`))));
      call.on("error", reject);
      call.write(Buffer.from("x"));
    });
  return {
    async work() {
      for (let call = 0; call < 20; call++) await unary();
      await chat();
      return 21;
    },
    close: () => client.close(),
  };
}

/** Ten messages there and back, then the end from this side. */
export async function tcp({ tcp: port }: Ports): Promise<number> {
  const socket = net.connect(port, "127.0.0.1");
  try {
    await within(
      "echo over TCP",
      new Promise<void>((resolve, reject) => {
        let seen = 0;
        socket.on("connect", () => socket.write("ping"));
        socket.on("data", (bytes: Buffer) => {
          seen += bytes.length;
          if (seen === 40) resolve();
          else if (seen % 4 === 0) socket.write("ping");
        });
        socket.on("error", reject);
        socket.on("close", () => reject(new Error(`closed after ${seen} bytes`)));
      }),
    );
    return 10;
  } finally {
    socket.end();
  }
}

/** Ten datagrams from one socket; each may get lost twice (a worker or an endpoint that goes), as datagrams may. */
export async function udp({ udp: port }: Ports): Promise<number> {
  let answer: (text: string) => void = () => {};
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    connect: { hostname: "127.0.0.1", port },
    socket: {
      data: (_socket, bytes) => answer(bytes.toString()),
      error() {},
    },
  });
  try {
    for (let number = 0; number < 10; number++) {
      const expected = `${number}`;
      let came = false;
      for (let attempt = 0; attempt < 3 && !came; attempt++) {
        came = await new Promise<boolean>((resolve) => {
          const timer = setTimeout(() => resolve(false), 3_000);
          answer = (text) => {
            if (text !== expected) return;
            clearTimeout(timer);
            resolve(true);
          };
          socket.send(expected);
        });
      }
      check(came, "no datagram came back in three tries");
    }
    return 10;
  } finally {
    socket.close();
  }
}

const begins: readonly string[] = [
  "GET / HT",
  "POST /post HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc",
  "POST /post HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
  "GET /big HTTP/1.1\r\nhost: a\r\n\r\n",
  "GET /socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81",
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\x82\x84\x86\x41\0",
];

/** Begins what it never ends, or does not read what it asked for; stays a while or is gone at once. */
export async function rude({ plain, secure, tcp: relayed }: Ports): Promise<number> {
  const kind = Math.floor(Math.random() * (begins.length + 3));
  const stays = Math.random() < 0.5 ? 5 : 2_000;
  if (kind === begins.length) {
    const socket = tls.connect({
      host: "127.0.0.1",
      port: secure,
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    socket.on("error", () => {});
    socket.pause();
    socket.once("secureConnect", () => socket.write("GET /big HTTP/1.1\r\nhost: a\r\n\r\n"));
    await Bun.sleep(stays);
    socket.destroy();
    return 1;
  }
  const port = kind < begins.length ? plain : kind === begins.length + 1 ? secure : relayed;
  const connection = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {}, error() {} } });
  connection.pause();
  // A ClientHello that ends early, and words for an echo that nobody hears.
  connection.write(
    Buffer.from(begins[kind] ?? (port === secure ? "\x16\x03\x01\x02\0\x01" : "x".repeat(100_000)), "latin1"),
  );
  await Bun.sleep(stays);
  connection.terminate();
  return 1;
}
