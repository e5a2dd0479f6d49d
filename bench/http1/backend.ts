// The backend of the benchmark: answers every request that ends in an empty line with one fixed answer, as cheaply as it can, so
// that the machine is left to the proxies. Prints its port.

const body = JSON.stringify({ name: "orders", version: "v2", items: [1, 2, 3, 4, 5, 6, 7, 8] });
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\ncache-control: no-store\r\n\r\n${body}`,
);

const listener = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    data(socket, bytes) {
      for (let at = bytes.indexOf("\r\n\r\n"); at >= 0; at = bytes.indexOf("\r\n\r\n", at + 4)) socket.write(answer);
    },
  },
});
process.stdout.write(`${listener.port}\n`);
