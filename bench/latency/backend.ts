// A backend that answers at once: NGINX with a fixed answer. Prints its port; ends with it.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../test/e2e/proxy-harness.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-bench-backend-"));
const port = freePort();
const places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder};`);
writeFileSync(
  join(folder, "nginx.conf"),
  `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log error;
events { worker_connections 4096; }
http {
  access_log off; ${places.join(" ")}
  keepalive_requests 1000000000; keepalive_timeout 600s;
  server {
    listen 127.0.0.1:${port};
    default_type application/json;
    location / { return 200 '{"name":"orders","version":"v2","items":[1,2,3,4,5,6,7,8]}'; }
  }
}
`,
);
const program = Bun.which("nginx", { PATH: `${process.env["PATH"]}:/usr/sbin` });
if (!program) throw new Error("nginx is missing: apt-get install nginx");
const nginx = Bun.spawn([program, "-p", folder, "-c", join(folder, "nginx.conf")], { stdout: "ignore" });
process.on("SIGTERM", () => nginx.kill("SIGKILL"));
void nginx.exited.then(() => {
  rmSync(folder, { recursive: true, force: true });
  process.exit(0);
});
for (;;) {
  const there = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  if (there?.ok) break;
  await Bun.sleep(20);
}
process.stdout.write(`${port}\n`);
