// A fresh proxy for each test of a file. Not in the harness, which benchmarks use outside of tests.

import { afterEach, beforeEach } from "bun:test";
import { freePort, ProxyUnderTest } from "./proxy-harness.ts";

/** Gives each test of a file a proxy of its own (not started) and a port; what is pushed to the list is called after the test. */
export function eachTest(begins: (proxy: ProxyUnderTest, port: number) => void): (() => unknown)[] {
  const ends: (() => unknown)[] = [];
  let current: ProxyUnderTest;
  beforeEach(() => {
    current = new ProxyUnderTest();
    begins(current, freePort());
  });
  afterEach(async () => {
    await current.stop();
    for (const end of ends.splice(0)) await end();
  });
  return ends;
}
