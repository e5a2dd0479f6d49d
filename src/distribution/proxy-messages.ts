// What a proxy may say, checked: a message of another shape ends its connection and nothing else.

import { type ResourceType, resourceTypes } from "../model/model.ts";
import type { Composition, FromProxy, Rejection } from "../model/wire.ts";

/** The message as a {@link FromProxy}. Throws an Error that says what is wrong with it. */
export function parseFromProxy(message: unknown): FromProxy {
  const fields = record(message, "a message");
  if (fields["type"] === "hello") {
    const have: { [T in ResourceType]?: Readonly<Record<string, string>> } = {};
    const given = record(fields["have"], "hello.have");
    for (const type of resourceTypes) {
      if (given[type] === undefined) continue;
      const names = record(given[type], `hello.have.${type}`);
      have[type] = Object.fromEntries(Object.entries(names).map(([name, one]) => [name, text(one, "a fingerprint")]));
    }
    return {
      type: "hello",
      proxy: text(fields["proxy"], "hello.proxy"),
      scopes: list(fields["scopes"], "hello.scopes").map((one) => text(one, "a scope")),
      pid: whole(fields["pid"], "hello.pid"),
      ...(fields["program"] === undefined ? {} : { program: text(fields["program"], "hello.program") }),
      ...(fields["admin"] === undefined ? {} : { admin: text(fields["admin"], "hello.admin") }),
      ...(fields["composition"] === undefined ? {} : { composition: composition(fields["composition"]) }),
      ...(fields["sockets"] === undefined ? {} : { sockets: whole(fields["sockets"], "hello.sockets") }),
      have,
    };
  }
  if (fields["type"] === "applied") {
    const version = whole(fields["version"], "applied.version");
    return { type: "applied", version, rejected: list(fields["rejected"], "applied.rejected").map(rejection) };
  }
  throw new Error(`unknown message type ${JSON.stringify(fields["type"])}`);
}

function composition(value: unknown): Composition {
  const fields = record(value, "hello.composition");
  return {
    name: text(fields["name"], "hello.composition.name"),
    pid: whole(fields["pid"], "hello.composition.pid"),
    workers: whole(fields["workers"], "hello.composition.workers"),
    admin: text(fields["admin"], "hello.composition.admin"),
  };
}

function rejection(value: unknown): Rejection {
  const fields = record(value, "a rejection");
  const resource = fields["resource"] as ResourceType;
  if (!resourceTypes.includes(resource)) throw new Error("a rejection of an unknown resource type");
  const from = fields["from"] === undefined ? {} : { from: fields["from"] as Rejection["from"] };
  return { resource, name: text(fields["name"], "its name"), reason: text(fields["reason"], "its reason"), ...from };
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${what} is no object`);
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error(`${what} is no list`);
  return value;
}

function text(value: unknown, what: string): string {
  if (typeof value !== "string") throw new Error(`${what} is no string`);
  return value;
}

function whole(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value)) throw new Error(`${what} is no whole number`);
  return value as number;
}
