// Everything that can end an exchange other than an answer from upstream, and the one table that says what a client, an
// operator and a gRPC caller see of it. Statuses and flags are Envoy's where it has the case (response flags of its access
// log), because operators know them; the words are ours.

/** What went wrong (or ended) on the way of one request. The value is also the word in `x-fairlead-reason` and in metrics. */
export type Reason = keyof typeof reasons;

export interface ReasonRow {
  /** The status of the answer; 0 where nothing can be answered any more. */
  readonly status: number;
  /** Envoy's response flag, `-` where it has none. */
  readonly flag: string;
  /**
   * The gRPC code (google.rpc.Code) for gRPC callers, where the answer has the row's status (`local-answer.ts`). That of the status by
   * gRPC's own mapping, which is Envoy's, but for what says more: what is too long, and limits, are RESOURCE_EXHAUSTED (8; for limits
   * Envoy has an option), what is not spoken here UNIMPLEMENTED (12), a time that is over DEADLINE_EXCEEDED (4: UNAVAILABLE would have
   * calls done again that the backend may have done), what may be well on another connection or later UNAVAILABLE (14).
   */
  readonly grpc: number;
  /** The body of the answer. Says nothing of the inside: names of backends are in the access log. */
  readonly text: string;
}

export const reasons = {
  // What the client sent.
  bad_request: row(400, "DPE", 13, "the request is malformed"),
  bad_host: row(400, "DPE", 13, "the Host header is missing, repeated or no host"),
  bad_path: row(400, "DPE", 13, "the path leads above the root, or has a zero byte in it"),
  bad_framing: row(400, "DPE", 13, "Content-Length and Transfer-Encoding do not say where the request ends"),
  bad_chunk: row(400, "DPE", 13, "the chunked body is malformed"),
  bad_stream: row(0, "DPE", 13, "the request's stream is malformed"),
  head_too_large: row(431, "DPE", 8, "the request's header is larger than 64 KiB or has more than 100 fields"),
  target_too_long: row(414, "DPE", 8, "the request target is longer than 16 KiB"),
  version_not_supported: row(505, "DPE", 12, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
  method_not_supported: row(501, "DPE", 12, "this method is not supported"),
  coding_not_supported: row(501, "DPE", 12, "only the transfer coding chunked is supported"),
  expectation_failed: row(417, "DPE", 12, "only the expectation 100-continue can be met"),
  request_slow: row(408, "DT", 4, "the request did not arrive in time"),
  client_closed: row(0, "DC", 1, "the client closed the connection"),
  bad_proxy_header: row(0, "DPE", 13, "the connection does not begin with a PROXY header"),
  bad_hello: row(0, "DPE", 13, "the connection does not begin with a ClientHello"),
  bad_client_certificate: row(0, "-", 16, "the client's certificate is missing or not one that is let in"),
  // Where it should go.
  no_chain: row(0, "NR", 12, "nothing is served for this server name"),
  no_host: row(404, "NR", 12, "no route serves this host"),
  no_route: row(404, "NR", 12, "no rule takes this request"),
  misdirected: row(421, "-", 14, "this host is not served on this connection"),
  no_table: row(503, "NR", 14, "the routes of this listener are not known yet"),
  no_weight: row(500, "NR", 14, "all backends of the rule have weight 0"),
  no_backend: row(503, "NC", 14, "the backend of the rule is not known"),
  no_endpoints: row(503, "UH", 14, "the backend has no endpoints"),
  no_healthy_endpoints: row(503, "UH", 14, "no endpoint of the backend is healthy"),
  kept_gone: row(503, "UH", 14, "what served this session is gone"),
  // What a policy said.
  loop_detected: row(508, "-", 9, "the request has passed too many proxies"),
  address_refused: row(403, "-", 7, "requests from this address are not taken"),
  unauthorized: row(401, "-", 16, "credentials are missing or wrong"),
  bad_token: row(401, "-", 16, "the token is missing or not valid"),
  keys_unavailable: row(503, "-", 14, "tokens cannot be verified at the moment"),
  too_many_logins: row(503, "-", 14, "too many credentials are being verified"),
  refused_by_authorization: row(403, "UAEX", 7, "the request is not allowed"),
  authorization_failed: row(403, "UAEX", 7, "the request could not be authorized"),
  rate_limited: row(429, "RL", 8, "too many requests"),
  rate_limit_failed: row(500, "RLSE", 14, "the rate limit service failed"),
  body_too_large: row(413, "-", 8, "the request's body is too large"),
  fault_injected: row(503, "FI", 14, "a fault was injected"),
  preflight: row(204, "-", 0, ""),
  last_hop: row(200, "-", 0, ""),
  direct_response: row(200, "-", 0, ""),
  // What upstream did.
  connect_failed: row(503, "UF", 14, "no connection to the backend could be made"),
  connect_timeout: row(503, "UF", 14, "the backend did not accept a connection in time"),
  handshake_failed: row(503, "UF", 14, "TLS with the backend failed"),
  backend_not_trusted: row(
    503,
    "UF",
    14,
    "the backend's certificate is not signed by those who are trusted, or not valid now",
  ),
  backend_has_other_name: row(503, "UF", 14, "the backend's certificate has another name"),
  overflow: row(503, "UO", 14, "too many requests wait for the backend"),
  upstream_closed: row(503, "UC", 14, "the backend closed the connection before it answered"),
  upstream_reset: row(503, "UR", 14, "the backend reset the request"),
  upgrade_refused: row(502, "UPE", 14, "the backend does not speak the protocol that was asked for"),
  upstream_malformed: row(502, "UPE", 14, "the backend's answer is malformed"),
  request_timeout: row(504, "UT", 4, "the request took longer than its timeout"),
  response_timeout: row(504, "UT", 4, "the answer was not whole in time after the request"),
  stream_timeout: row(504, "UMSDR", 4, "the request and what came of it took longer than they may"),
  try_timeout: row(504, "UT", 4, "the backend did not answer in time"),
  upstream_idle: row(504, "SI", 4, "the backend stopped sending"),
  no_destination: row(0, "NR", 12, "the connection was not sent here by a rule of the kernel"),
  idle: row(0, "-", 4, "nothing came for too long, from either side"),
  // The proxy itself.
  draining: row(503, "-", 14, "the proxy is shutting down"),
  overloaded: row(503, "OM", 8, "the proxy has more to do than it can"),
  too_many_connections: row(503, "OM", 8, "the proxy has too many connections"),
} as const satisfies Record<string, ReasonRow>;

function row(status: number, flag: string, grpc: number, text: string): ReasonRow {
  return { status, flag, grpc, text };
}
