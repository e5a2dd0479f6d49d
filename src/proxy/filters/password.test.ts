import { expect, test } from "bun:test";
import { parseHtpasswd } from "../../model/htpasswd.ts";
import { apr1, Passwords } from "./password.ts";

// Made with `openssl passwd -apr1`.
test("apr1 hashes are what Apache's tools make", async () => {
  expect(await apr1("password", "lZL6V/ci")).toBe("$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00");
  expect(await apr1("päss wörd long one 12345678", "lZL6V")).toBe("$apr1$lZL6V$6Tmcnn5yD.v2ZAJ4.6dm6/");
  expect(await apr1("", "abcdefgh")).toBe("$apr1$abcdefgh$L.PT565ESX4Tp2bqNs7Ie.");
});

const bcrypt = await Bun.password.hash("right", { algorithm: "bcrypt", cost: 4 });
const { users } = parseHtpasswd(`ann:${bcrypt}\nold:${bcrypt.replace(/^\$2b/, "$2y")}\n`);

test("right passwords are right and remembered, for their user and list only", async () => {
  const passwords = new Passwords();
  expect(passwords.remembered(users, "ann", "right")).toBeUndefined();
  expect(await passwords.verify(users, "ann", "wrong")).toBeFalse();
  expect(passwords.remembered(users, "ann", "wrong")).toBeUndefined();
  expect(await passwords.verify(users, "ann", "right")).toBeTrue();
  expect(passwords.remembered(users, "ann", "right")).toBeTrue();
  expect(passwords.remembered(users, "ann", "wrong")).toBeUndefined();
  expect(passwords.remembered(users, "bob", "right")).toBeUndefined();
  expect(passwords.remembered(new Map(), "ann", "right")).toBeUndefined();
  expect(await passwords.verify(users, "old", "right")).toBeTrue();
});

test("of long passwords bcrypt takes 72 bytes, as Apache's tools do", async () => {
  const long = await Bun.password.hash("x".repeat(72), { algorithm: "bcrypt", cost: 4 });
  const { users: one } = parseHtpasswd(`ann:${long}`);
  expect(await new Passwords().verify(one, "ann", "x".repeat(80))).toBeTrue();
  expect(await new Passwords().verify(one, "ann", "x".repeat(71))).toBeFalse();
});

test("names that do not exist are as much work as those that do, and never right", async () => {
  const passwords = new Passwords();
  expect(await passwords.verify(users, "nobody", "right")).toBeFalse();
  expect(await passwords.verify(new Map(), "nobody", "right")).toBeFalse();
});

test("only so many are verified and wait at a time", async () => {
  const passwords = new Passwords();
  const all = await Promise.all(Array.from({ length: 300 }, () => passwords.verify(users, "ann", "wrong")));
  expect(all.filter((verified) => verified === "busy")).toHaveLength(300 - 4 - 256);
  expect(all.filter((verified) => verified === false)).toHaveLength(260);
  expect(await passwords.verify(users, "ann", "right")).toBeTrue();
});
