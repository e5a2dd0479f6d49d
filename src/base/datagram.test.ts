import { expect, test } from "bun:test";
import { sendDatagram } from "./datagram.ts";

test("an answer is sent although another peer has just refused one", async () => {
  const server = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0, socket: { error() {} } });
  const gone = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0 });
  const { port } = gone;
  gone.close();
  const heard: string[] = [];
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const client = await Bun.udpSocket({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(_, data) {
        if (heard.push(data.toString()) === 5) resolve();
      },
    },
  });
  for (let n = 0; n < 5; n++) {
    sendDatagram(() => server.send("for nobody", port, "127.0.0.1"));
    expect(sendDatagram(() => server.send(`answer ${n}`, client.port, "127.0.0.1"))).toBe(true);
  }
  await all;
  expect(heard).toEqual(["answer 0", "answer 1", "answer 2", "answer 3", "answer 4"]);
  server.close();
  client.close();
});

test("errors that are the datagram's own are not hidden", () => {
  const send = () => {
    throw Object.assign(new Error("message too long"), { code: "EMSGSIZE" });
  };
  expect(() => sendDatagram(send)).toThrow("message too long");
});
