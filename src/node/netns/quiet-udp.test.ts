import { expect, test } from "bun:test";
import { stopReceiving } from "./quiet-udp.ts";

test("a quiet socket answers what waits in it, and another of the port has all that comes later", async () => {
  const heard: string[] = [];
  const open = (name: string, port: number) =>
    Bun.udpSocket({
      hostname: "127.0.0.1",
      port,
      ...({ flags: 4 } as object),
      socket: {
        data(socket, data, fromPort, from) {
          heard.push(`${name} ${data.toString()}`);
          socket.send(`${name} ${data.toString()}`, fromPort, from);
        },
      },
    });
  const old = await open("old", 0);
  const answers: string[] = [];
  const client = await Bun.udpSocket({ socket: { data: (_, data) => void answers.push(data.toString()) } });
  client.send("waits", old.port, "127.0.0.1");
  expect(stopReceiving(old.port)).toBe(1);
  const next = await open("next", old.port);
  for (let n = 0; n < 20; n++) client.send(`later ${n}`, old.port, "127.0.0.1");
  while (answers.length < 21) await Bun.sleep(1);
  expect(heard.filter((one) => one.startsWith("old"))).toEqual(["old waits"]);
  expect(answers).toContain("old waits");
  for (const socket of [old, next, client]) socket.close();
});
