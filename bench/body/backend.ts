// The backend of the body benchmark: answers `…?bytes=N` with that many bytes, and reads what it is sent. Prints its port.

const sizes = new Map<number, Uint8Array>();

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  maxRequestBodySize: 64 * 1024 * 1024,
  async fetch(request) {
    const asked = Number(new URL(request.url).searchParams.get("bytes"));
    if (request.method === "POST") await request.arrayBuffer();
    const body = sizes.get(asked) ?? new Uint8Array(asked).fill(120);
    sizes.set(asked, body);
    return new Response(body, { headers: { "content-type": "application/octet-stream" } });
  },
});
process.stdout.write(`${server.port}\n`);

export {};
