// The load of bench/dns, a process of its own: asks one server over UDP with a fixed number of questions under way, for some
// seconds, and prints what came back as a line of JSON. `bun client.ts ADDRESS PORT NAMES-FILE SECONDS UNDER-WAY [PER-SECOND]`.

import { readFileSync } from "node:fs";
import { encode } from "dns-packet";
import { quantile } from "../statistics.ts";

const [address = "", port = "", file = "", seconds = "2", window = "32", rate = "0"] = process.argv.slice(2);
const names = readFileSync(file, "utf8").trim().split("\n");
const queries = names.map((name) => encode({ type: "query", id: 0, flags: 0x0100, questions: [{ name, type: "A" }] }));
/** A question that got no answer for this long is given up, in milliseconds. */
const patience = 500;

const sentAt = new Float64Array(65_536).fill(-1);
const latencies: number[] = [];
let id = 0;
let next = 0;
let answered = 0;
let wrong = 0;
let lost = 0;
const end = performance.now() + Number(seconds) * 1000;

const socket = await Bun.udpSocket({
  connect: { hostname: address, port: Number(port) },
  socket: {
    data(_socket, reply) {
      const at = reply.readUInt16BE(0);
      const began = sentAt[at]!;
      if (began < 0) return;
      sentAt[at] = -1;
      answered++;
      if ((reply[3]! & 15) !== 0 || reply.readUInt16BE(6) === 0) wrong++;
      latencies.push(performance.now() - began);
      if (Number(rate) === 0) ask();
    },
  },
});

function ask(): void {
  const now = performance.now();
  if (now > end) return;
  id = (id + 1) & 65_535;
  if (sentAt[id]! >= 0) return;
  const query = queries[next++ % queries.length]!;
  query.writeUInt16BE(id, 0);
  sentAt[id] = now;
  if (!socket.send(query)) sentAt[id] = -1;
}

const began = performance.now();
if (Number(rate) === 0) for (let at = 0; at < Number(window); at++) ask();
while (performance.now() < end) {
  await Bun.sleep(Number(rate) === 0 ? 20 : 1);
  const now = performance.now();
  if (Number(rate) > 0) {
    const due = Math.floor(((now - began) / 1000) * Number(rate));
    while (next < due && performance.now() < end) ask();
  }
  for (let at = 0; at < 65_536; at++) {
    if (sentAt[at]! < 0 || now - sentAt[at]! < patience) continue;
    sentAt[at] = -1;
    lost++;
    if (Number(rate) === 0) ask();
  }
}
await Bun.sleep(50);
socket.close();
const elapsed = Number(seconds);
const at = (q: number) => (latencies.length === 0 ? -1 : quantile(latencies, q));
console.log(
  JSON.stringify({ answered, wrong, lost, perSecond: answered / elapsed, p50: at(0.5), p99: at(0.99), max: at(1) }),
);
