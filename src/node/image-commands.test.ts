import { describe, expect, test } from "bun:test";
import type { Container, Pod } from "../api/kinds.ts";
import { commandFor, matchesImage, parseImageCommand } from "./image-commands.ts";

const pod = (annotations: Record<string, string> = {}): Pod =>
  ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "web", annotations },
    spec: { containers: [{ name: "app" }, { name: "side" }] },
  }) as unknown as Pod;

describe("a command in place of an image", () => {
  test("is chosen by the image's name, with or without registry and tag", () => {
    expect(matchesImage("nginx", "docker.io/library/nginx:1.27")).toBe(true);
    expect(matchesImage("nginx*", "nginx-unprivileged:1")).toBe(true);
    expect(matchesImage("example.com/shop/*", "example.com/shop/cart:2@sha256:00ff")).toBe(true);
    expect(matchesImage("nginx", "example.com/nginx-exporter")).toBe(false);
  });

  test("gets the container's command and args as its own", () => {
    const container = { name: "app", image: "web:1", command: ["serve"], args: ["--port", "80"] } as Container;
    const rules = [parseImageCommand('web=exec ./web "$@"')];
    expect(commandFor(pod(), container, rules)).toEqual([
      "/bin/sh",
      "-c",
      'exec ./web "$@"',
      "app",
      "serve",
      "--port",
      "80",
    ]);
  });

  test("comes from the pod's annotation before all rules, for its first container or the one it names", () => {
    const annotated = pod({ "fairlead.dev/command": "one", "fairlead.dev/command-side": "two" });
    const commands = ["app", "side"].map((name) => commandFor(annotated, { name, image: "x" } as Container, [])?.[2]);
    expect(commands).toEqual(["one", "two"]);
    const onlyFirst = pod({ "fairlead.dev/command": "one" });
    expect(commandFor(onlyFirst, { name: "side", image: "x" } as Container, [])).toBeUndefined();
  });

  test("must be written as PATTERN=COMMAND", () => {
    expect(parseImageCommand("a=b=c")).toEqual({ pattern: "a", command: "b=c" });
    expect(() => parseImageCommand("nginx")).toThrow('--image "nginx": not of the form PATTERN=COMMAND');
  });
});
