// The formats of access logs that are written where nobody says another.

/** Istio's default (pilot/pkg/model/telemetry_logging.go), because what reads the logs of meshes knows it. */
export const defaultTextFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% ' +
  "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/** The program's own log: an object a request, or connection or session that was passed through. */
export const defaultJsonFormat: Readonly<Record<string, string>> = {
  time: "%START_TIME%",
  protocol: "%PROTOCOL%",
  method: "%REQ(:METHOD)%",
  authority: "%REQ(:AUTHORITY)%",
  path: "%REQ(:PATH)%",
  status: "%RESPONSE_CODE%",
  reason: "%RESPONSE_CODE_DETAILS%",
  flag: "%RESPONSE_FLAGS%",
  route: "%ROUTE_NAME%",
  backend: "%UPSTREAM_CLUSTER%",
  endpoint: "%UPSTREAM_HOST%",
  source: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
  sourcePort: "%DOWNSTREAM_REMOTE_PORT%",
  destination: "%DOWNSTREAM_LOCAL_ADDRESS%",
  serverName: "%REQUESTED_SERVER_NAME%",
  peer: "%DOWNSTREAM_PEER_URI_SAN%",
  subject: "%DOWNSTREAM_PEER_SUBJECT%",
  received: "%BYTES_RECEIVED%",
  sent: "%BYTES_SENT%",
  milliseconds: "%DURATION%",
  attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
  requestId: "%REQ(X-REQUEST-ID)%",
};
