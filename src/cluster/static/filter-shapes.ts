// The filters of `model/filters.ts` as people write them: lists that are left out are empty, flags that are left out are false.

import type * as filters from "../../model/filters.ts";
import type { HeaderChange, HeaderValue, PathRewrite, Respond, StringMatch, ValueMatch } from "../../model/model.ts";
import {
  byField,
  byKind,
  flag,
  list,
  listOrNone,
  may,
  number,
  object,
  oneOf,
  or,
  provenance,
  type Shape,
  text,
  wordOr,
} from "./shape.ts";

const from = provenance;
const texts = listOrNone(text);
const no = or(flag, false);

export const stringMatch: Shape<StringMatch> = byKind<StringMatch>({
  exact: withCase("exact"),
  prefix: withCase("prefix"),
  suffix: withCase("suffix"),
  contains: withCase("contains"),
  regex: object<{ kind: "regex"; value: string }>({ kind: oneOf("regex"), value: text }),
  present: object<{ kind: "present" }>({ kind: oneOf("present") }),
});

/** A match of a text with a value, whose case may be ignored. */
export function withCase<K extends string>(kind: K): Shape<{ kind: K; value: string; ignoreCase?: boolean }> {
  return object<{ kind: K; value: string; ignoreCase?: boolean }>({
    kind: oneOf(kind),
    value: text,
    ignoreCase: may(flag),
  });
}

export const valueMatch = object<ValueMatch>({ name: text, match: stringMatch, from });

export const header = object<HeaderValue>({ name: text, value: text });

const change = object<HeaderChange>({ set: listOrNone(header), add: listOrNone(header), remove: texts });

export const rewritePath: Shape<PathRewrite> = byKind<PathRewrite>({
  full: object<{ kind: "full"; value: string }>({ kind: oneOf("full"), value: text }),
  prefix: object<{ kind: "prefix"; value: string }>({ kind: oneOf("prefix"), value: text }),
  regex: object<{ kind: "regex"; pattern: string; value: string }>({
    kind: oneOf("regex"),
    pattern: text,
    value: text,
  }),
});

export const respond = object<Respond>({
  kind: or(oneOf("respond"), "respond"),
  status: number,
  reason: or(text, "as configured"),
  headers: may(list(header)),
  body: may(text),
});

const place = object<{ from?: string; to: string }>({ from: may(text), to: text });

const requestKey: Shape<filters.RequestKey> = byKind<filters.RequestKey>({
  source: object({ kind: oneOf("source") }),
  header: named("header"),
  cookie: named("cookie"),
  query: named("query"),
  method: object({ kind: oneOf("method") }),
  path: object({ kind: oneOf("path") }),
  host: object({ kind: oneOf("host") }),
  constant: object({ kind: oneOf("constant"), value: text }),
});

function named<K extends string>(kind: K): Shape<{ kind: K; name: string }> {
  return object<{ kind: K; name: string }>({ kind: oneOf(kind), name: text });
}

const whenFailing = wordOr(["pass"], object<{ status: number }>({ status: number }));

type Keys = filters.JwtProvider["keys"];

const provider = object<filters.JwtProvider>({
  name: text,
  issuer: text,
  audiences: texts,
  keys: byField<Keys>({
    inline: object<Extract<Keys, { inline: string }>>({ inline: text }),
    backend: object<Extract<Keys, { backend: string }>>({ backend: text, authority: text, path: text, keep: number }),
  }),
  places: listOrNone(
    byKind<filters.JwtProvider["places"][number]>({
      header: object({ kind: oneOf("header"), name: text, prefix: or(text, "") }),
      query: named("query"),
      cookie: named("cookie"),
    }),
  ),
  forward: no,
  payloadHeader: may(text),
  claimHeaders: listOrNone(object<{ claim: string; header: string }>({ claim: text, header: text })),
});

type Protocol = filters.ExternalAuthorization["protocol"];

const authorization = object<filters.ExternalAuthorization>({
  kind: oneOf("externalAuth"),
  from,
  service: text,
  protocol: byKind<Protocol>({
    http: object<Extract<Protocol, { kind: "http" }>>({
      kind: oneOf("http"),
      authority: may(text),
      path: text,
      prefix: no,
      method: may(text),
    }),
    grpc: object<Extract<Protocol, { kind: "grpc" }>>({ kind: oneOf("grpc"), authority: text }),
  }),
  sends: texts,
  adds: listOrNone(header),
  body: or(object<{ bytes: number; partial: boolean }>({ bytes: number, partial: no }), { bytes: 0, partial: false }),
  toBackend: texts,
  toClient: texts,
  timeout: number,
  whenFailing,
  signIn: may(text),
});

const localRateLimit = object<filters.LocalRateLimit>({
  kind: oneOf("localRateLimit"),
  from,
  bucket: text,
  key: listOrNone(requestKey),
  when: may(list(valueMatch)),
  requests: number,
  per: number,
  burst: number,
  status: or(number, 429),
  tell: no,
  shared: no,
});

const globalRateLimit = object<filters.GlobalRateLimit>({
  kind: oneOf("globalRateLimit"),
  from,
  service: text,
  authority: text,
  domain: text,
  descriptors: list(list(object<{ key: string; value: filters.RequestKey }>({ key: text, value: requestKey }))),
  timeout: number,
  whenFailing,
  status: or(number, 429),
});

type Abort = NonNullable<filters.Fault["abort"]>;

const fault = object<filters.Fault>({
  kind: oneOf("fault"),
  from,
  when: may(list(valueMatch)),
  delay: may(object<{ perMillion: number; time: number }>({ perMillion: number, time: number })),
  abort: may(
    byField<Abort>({
      status: object<{ perMillion: number; status: number }>({ perMillion: number, status: number }),
      grpcStatus: object<{ perMillion: number; grpcStatus: number }>({ perMillion: number, grpcStatus: number }),
    }),
  ),
});

type Page = filters.ErrorPages["pages"][number];

export const statusRange = object<{ first: number; last: number }>({ first: number, last: number });

const errorPages = object<filters.ErrorPages>({
  kind: oneOf("errorPages"),
  from,
  pages: list(
    object<Page>({
      statuses: list(statusRange),
      answer: byField<Page["answer"]>({
        respond: object<{ respond: Respond }>({ respond }),
        backend: object<Extract<Page["answer"], { backend: string }>>({
          backend: text,
          path: text,
          keepStatus: no,
          headers: may(list(header)),
        }),
      }),
    }),
  ),
});

export const filter: Shape<filters.Filter> = byKind<filters.Filter>({
  requestHeaders: object<filters.RequestHeaders>({ kind: oneOf("requestHeaders"), from, change }),
  responseHeaders: object<filters.ResponseHeaders>({ kind: oneOf("responseHeaders"), from, change }),
  rewrite: object<filters.Rewrite>({ kind: oneOf("rewrite"), from, host: may(text), path: may(rewritePath) }),
  query: object<filters.QueryChange>({ kind: oneOf("query"), from, change }),
  cookies: object<filters.CookieChange>({
    kind: oneOf("cookies"),
    from,
    name: may(stringMatch),
    domain: may(place),
    path: may(place),
    secure: may(flag),
    httpOnly: may(flag),
    sameSite: may(oneOf("Strict", "Lax", "None")),
  }),
  addresses: object<filters.AddressList>({
    kind: oneOf("addresses"),
    from,
    allow: may(list(text)),
    deny: may(list(text)),
    status: may(number),
  }),
  basicAuth: object<filters.BasicAuth>({
    kind: oneOf("basicAuth"),
    from,
    realm: text,
    users: text,
    userHeader: may(text),
    keepsAuthorization: may(flag),
  }),
  jwt: object<filters.JwtAuth>({ kind: oneOf("jwt"), from, providers: list(provider), optional: no }),
  externalAuth: authorization,
  localRateLimit,
  globalRateLimit,
  cors: object<filters.Cors>({
    kind: oneOf("cors"),
    from,
    allowOrigins: list(stringMatch),
    allowMethods: texts,
    allowHeaders: texts,
    exposeHeaders: texts,
    maxAge: may(number),
    allowCredentials: no,
    allowPrivateNetwork: may(flag),
    otherPreflights: or(oneOf("forward", "answer"), "answer"),
  }),
  fault,
  grpcWeb: object<filters.GrpcWeb>({ kind: oneOf("grpcWeb"), from }),
  mirror: object<filters.Mirror>({
    kind: oneOf("mirror"),
    from,
    backend: text,
    perMillion: or(number, 1_000_000),
    hostSuffix: may(text),
    host: may(text),
    path: may(text),
    withoutBody: may(flag),
  }),
  bodyLimit: object<filters.BodyLimit>({ kind: oneOf("bodyLimit"), from, bytes: number }),
  buffering: object<filters.Buffering>({
    kind: oneOf("buffering"),
    from,
    request: may(number),
    response: may(number),
  }),
  compression: object<filters.Compression>({
    kind: oneOf("compression"),
    from,
    codings: list(oneOf("br", "zstd", "gzip")),
    minBytes: or(number, 1024),
    types: list(text),
    level: may(number),
  }),
  errorPages,
});
