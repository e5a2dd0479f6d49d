// Runs in a pod's network in place of its container: answers HTTP with the pod's name and the client's address, and, unlike a
// stand-in, goes on answering after SIGTERM until it is killed; only `/ready` says 503 from then on.
//
//     bun lingering-server.ts NAME PORT

const [name = "", port] = process.argv.slice(2);
let told = false;
process.on("SIGTERM", () => {
  told = true;
});
Bun.serve({
  hostname: process.env["POD_IP"] ?? "0.0.0.0",
  port: Number(port),
  fetch(request, server) {
    if (new URL(request.url).pathname === "/ready") return new Response(null, { status: told ? 503 : 200 });
    return Response.json({ pod: name, client: server.requestIP(request)?.address });
  },
});
