// What is behind the relays of the TCP benchmark: to a byte it answers with one, unless the byte is `s`, from when on it sends as much
// as is taken. Prints its port.

import net from "node:net";

const chunk = Buffer.alloc(64 * 1024, 1);
const server = net.createServer({ noDelay: true }, (socket) => {
  const pour = () => {
    while (socket.write(chunk));
  };
  socket.on("error", () => {});
  socket.on("data", (bytes: Buffer) => {
    if (bytes[0] !== 0x73) {
      socket.write(bytes);
      return;
    }
    socket.on("drain", pour);
    pour();
  });
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as net.AddressInfo).port));
