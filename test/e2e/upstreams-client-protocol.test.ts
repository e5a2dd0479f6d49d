// A backend whose requests go on in the version of HTTP that their client speaks, through a real proxy: one endpoint that takes both.
// Needs no privileges.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect } from "node:http2";
import { FrameType } from "../../src/proxy/http2/frame.ts";
import { frame, Peer, settings } from "../../src/proxy/http2/peer.ts";
import { ends, port, proxy, serveBackend, setUp, tearDown, url } from "./policy-stack.ts";
import { backend } from "./proxy-harness.ts";

beforeEach(setUp);
afterEach(tearDown);

interface Talk {
  peer: Peer | undefined;
  text: string;
}

/** Answers either version on one port, and counts connections that are open, of each. */
function both() {
  const open = { http1: 0, h2c: 0 };
  const made = Bun.listen<Talk>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { peer: undefined, text: "" };
      },
      data(socket, bytes) {
        const { data } = socket;
        if (!data.peer && data.text === "") {
          if (bytes.subarray(0, 3).toString() === "PRI") {
            data.peer = new Peer(true);
            socket.write(settings());
            open.h2c++;
          } else open.http1++;
        }
        if (data.peer) {
          data.peer.write(bytes, 0, bytes.length);
          for (const { id } of data.peer.heads.splice(0)) {
            socket.write(data.peer.headers(id, { ":status": "200" }, false));
            socket.write(frame(FrameType.data, 1, id, Buffer.from("h2c")));
          }
          return;
        }
        data.text = bytes.toString();
        if (data.text.endsWith("\r\n\r\n")) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhttp1");
      },
      close({ data }) {
        if (data.peer) open.h2c--;
        else if (data.text !== "") open.http1--;
      },
      error() {},
    },
  });
  ends.push(() => made.stop(true));
  return { port: made.port, open };
}

async function overHttp2(): Promise<string> {
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    return await new Promise((resolve, reject) => {
      session.on("error", reject);
      const stream = session.request({ ":path": "/" });
      let text = "";
      stream.setEncoding("utf8");
      stream.on("data", (part: string) => (text += part));
      stream.on("end", () => resolve(text));
      stream.on("error", reject);
      stream.end();
    });
  } finally {
    session.close();
  }
}

const overHttp1 = async () => await (await fetch(url())).text();

test("each client gets on in its own version, and without the policy in the backend's", async () => {
  const one = both();
  await serveBackend([one.port], { protocol: "http1", useClientProtocol: true });
  expect([await overHttp1(), await overHttp2(), await overHttp1(), await overHttp2()]).toEqual([
    ...["http1", "h2c", "http1", "h2c"],
  ]);
  expect(one.open).toEqual({ http1: 1, h2c: 1 });
  await proxy.control.update({ backends: [backend("one", { protocol: "http1" })] });
  expect([await overHttp1(), await overHttp2()]).toEqual(["http1", "http1"]);
});

test("one connection in all serves both: an unused one of the other version makes room", async () => {
  const one = both();
  await serveBackend([one.port], { protocol: "h2c", useClientProtocol: true, limits: { connections: 1 } });
  const asked = Array.from({ length: 12 }, (_, index) => (index % 2 ? overHttp1() : overHttp2()));
  const answers = (await Promise.all(asked)).map((answer, index) => [index % 2, answer]);
  expect(answers).toEqual(asked.map((_, index) => [index % 2, index % 2 ? "http1" : "h2c"]));
});
