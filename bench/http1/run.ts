// HTTP/1.1, small answers, 32 keep-alive connections, 1,000 rules with header matches: CPU time a request of the proxy's process,
// ours with all telemetry on beside ours without, and NGINX without a log (the aim) and with one. Usage: bun bench/http1/run.ts
// [SECONDS [ROUNDS [NAME,…]]]; with names only those, and the result is not kept.

import { smallAnswers } from "../small-answers.ts";

await smallAnswers(import.meta.dir, "HTTP/1.1", false);
