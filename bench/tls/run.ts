// HTTP/1.1 over TLS: what `bench/http1` measures, through a connection that each proxy decrypts. Usage: bun bench/tls/run.ts
// [SECONDS [ROUNDS [NAME,…]]]; with names only those, and the result is not kept.

import { smallAnswers } from "../small-answers.ts";

await smallAnswers(import.meta.dir, "HTTP/1.1 over TLS", true);
