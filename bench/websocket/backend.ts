// The backend of the WebSocket benchmark: sends each message back. Prints its port.

const server = Bun.serve<undefined>({
  hostname: "127.0.0.1",
  port: 0,
  fetch: (request, bun) => (bun.upgrade(request) ? undefined : new Response("no handshake", { status: 400 })),
  websocket: {
    message(socket, message) {
      socket.send(message);
    },
  },
});
process.stdout.write(`${server.port}\n`);

export {};
