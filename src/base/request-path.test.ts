import { expect, test } from "bun:test";
import { requestPath, requestTarget } from "./request-path.ts";

test("a request's path is found whatever its Host header is", () => {
  expect(requestPath({ url: "http://127.0.0.1:10256/healthz?full" })).toBe("/healthz");
  expect(requestPath({ url: "http://fd00:10:98::1:10256/a/b#c" })).toBe("/a/b");
  expect(requestPath({ url: "http://x y" })).toBe("/");
});

test("a server answers a request whose Host header is no host", async () => {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: (request) => new Response(requestPath(request)) });
  const { promise, resolve } = Promise.withResolvers<string>();
  await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port!,
    socket: {
      open: (socket) => void socket.write("GET /livez HTTP/1.1\r\nHost: fd00::1\r\nConnection: close\r\n\r\n"),
      data: (_, data) => resolve(data.toString()),
    },
  });
  expect(await promise).toEndWith("\r\n\r\n/livez");
  await server.stop(true);
});

test("path and query stand on their own, whatever the Host header says", () => {
  const target = (url: string) => {
    const { pathname, search } = requestTarget({ url });
    return pathname + search;
  };
  expect(target("http://fd00::1:10256/config?type=listeners#part")).toBe("/config?type=listeners");
  expect(target("http://a b")).toBe("/");
  expect(target("http://x//y?a=/b?c")).toBe("//y?a=/b?c");
  expect(requestTarget({ url: "http://fd00::1/drain?deadline=7" }).searchParams.get("deadline")).toBe("7");
});
