// Envoy's long names of response flags (`RESPONSE_FLAGS_LONG`), of those that there are here (`reason.ts`).

const names: Readonly<Record<string, string>> = {
  UH: "NoHealthyUpstream",
  UF: "UpstreamConnectionFailure",
  UO: "UpstreamOverflow",
  NR: "NoRouteFound",
  DI: "DelayInjected",
  URX: "UpstreamRetryLimitExceeded",
  NC: "NoClusterFound",
  DT: "DurationTimeout",
  DC: "DownstreamConnectionTermination",
  UT: "UpstreamRequestTimeout",
  UR: "UpstreamRemoteReset",
  UC: "UpstreamConnectionTermination",
  FI: "FaultInjected",
  RL: "RateLimited",
  UAEX: "UnauthorizedExternalService",
  RLSE: "RateLimitServiceError",
  SI: "StreamIdleTimeout",
  DPE: "DownstreamProtocolError",
  UPE: "UpstreamProtocolError",
  UMSDR: "UpstreamMaxStreamDurationReached",
  OM: "OverloadManagerTerminated",
};

/** Of flags with commas between them; `-` stays. */
export function longFlags(flags: string): string {
  return flags
    .split(",")
    .map((flag) => names[flag] ?? flag)
    .join(",");
}
