// ClientHellos as a real TLS library sends them, as seeds for fuzzers: node's, with and without a name and ALPN, of TLS 1.2 and 1.3.

import net from "node:net";
import tls from "node:tls";

export async function clientHellos(): Promise<Buffer[]> {
  const options: tls.ConnectionOptions[] = [
    { servername: "www.example.com", ALPNProtocols: ["h2", "http/1.1"] },
    { servername: "a.example", maxVersion: "TLSv1.2" },
    { ALPNProtocols: ["acme-tls/1"] },
    {},
  ];
  const hellos: Buffer[] = [];
  for (const one of options) hellos.push(await helloOf(one));
  return hellos;
}

async function helloOf(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const hello = new Promise<Buffer>((resolve) =>
    server.once("connection", (socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes: Buffer) => resolve(bytes));
    }),
  );
  const { port } = server.address() as net.AddressInfo;
  const client = tls.connect({ ...options, host: "127.0.0.1", port, rejectUnauthorized: false });
  client.on("error", () => {});
  const bytes = await hello;
  client.destroy();
  server.close();
  if (bytes[0] !== 22) throw new Error("the TLS library sent no ClientHello");
  return bytes;
}
