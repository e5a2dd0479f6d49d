// The incremental engine's heart: collections that are computed from others. One compute call makes the outputs of one input
// value; what it fetched is recorded, and only a change of these answers, or of the input, calls it again.
// The idea is Istio's krt (pkg/kube/krt); the rank order is what makes it free of glitches.

import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Collection, ComputeError, DeriveOptions, Fetch, Index } from "./collection.ts";
import { deepEqual } from "./equal.ts";
import { IndexNode } from "./index.ts";
import { type Follower, Node, nodeOf } from "./node.ts";
import type { Read, Reader, ReaderSet } from "./readers.ts";

/** Pure and synchronous. Undefined or an empty list is no output. */
export type Compute<I, O> = (value: I, fetch: Fetch) => O | readonly O[] | undefined;

export type Derived<O> = Collection<O> & Disposable;

/**
 * A collection computed from `input`, value by value. `compute` may fetch from collections that exist already (the check of
 * this is what keeps the graph free of cycles). When it throws, the outputs of before stay and `errors()` says why; when two
 * inputs make one key, the input whose key sorts first has it and the other has the error.
 */
export function derive<I, O>(input: Collection<I>, compute: Compute<I, O>, options: DeriveOptions<O>): Derived<O> {
  const made = (value: I, fetch: Fetch): readonly (readonly [string, O])[] => {
    const output = compute(value, fetch);
    if (output === undefined) return [];
    const list = Array.isArray(output) ? (output as readonly O[]) : [output as O];
    return list.map((one) => [options.key(one), one] as const);
  };
  return new DerivedNode([input], made, options.name, options.equal ?? deepEqual);
}

/** Several collections of one type as one. Their keys must differ; one that does not is an error at the second. */
export function union<V>(name: string, inputs: readonly Collection<V>[]): Derived<V> {
  return new DerivedNode(
    inputs,
    (value, _fetch, key) => [[key, value]],
    name,
    (a, b) => a === b,
  );
}

type Make<I, O> = (value: I, fetch: Fetch, key: string) => readonly (readonly [string, O])[];

/** One input value: what was made of it, what that read, and whether it failed. */
class Cell<I, O> implements Reader {
  readonly node: DerivedNode<I, O>;
  readonly input: number;
  readonly key: string;
  outputs: ReadonlyMap<string, O> = new Map();
  reads: ReadonlySet<ReaderSet> = new Set();
  failure: string | undefined;

  constructor(node: DerivedNode<I, O>, input: number, key: string) {
    this.node = node;
    this.input = input;
    this.key = key;
  }

  stale(): void {
    this.node.stale(this);
  }

  /** Replaces what it listens to. */
  listen(reads: ReadonlySet<ReaderSet>): void {
    const before = this.reads;
    this.reads = reads;
    for (const one of reads) if (!before.has(one)) one.add(this);
    for (const one of before) if (!reads.has(one)) one.delete(this);
  }
}

const nothing: ReadonlySet<ReaderSet> = new Set();

export class DerivedNode<I, O> extends Node<O> implements Disposable {
  readonly #inputs: readonly Node<I>[];
  readonly #cells: readonly Map<string, Cell<I, O>>[];
  readonly #make: Make<I, O>;
  #stale = new Set<Cell<I, O>>();
  /** Who makes each output; more than one only while two inputs make the same key. */
  readonly #makers = new Map<string, Cell<I, O> | Set<Cell<I, O>>>();
  readonly #failed = new Set<Cell<I, O>>();
  readonly #contested = new Set<string>();
  readonly #following: Disposable[] = [];
  #disposed = false;

  constructor(inputs: readonly Collection<I>[], make: Make<I, O>, name: string, equal: (a: O, b: O) => boolean) {
    const nodes = inputs.map((one) => nodeOf(one));
    const graph = nodes[0]?.graph;
    if (!graph) throw new TypeError(`${name} needs an input`);
    if (nodes.some((one) => one.graph !== graph)) throw new TypeError(`${name} has inputs of different graphs`);
    if (graph.computing) throw new Error(`${name} is made inside of a compute function`);
    super(graph, name, graph.nextRank(), equal);
    this.#inputs = nodes;
    this.#cells = nodes.map(() => new Map());
    this.#make = make;
    graph.write(() => {
      if (this.#disposed) return;
      nodes.forEach((node, input) => {
        const follower: Follower<I> = { staged: (key) => this.#inputStaged(input, key) };
        this.#following.push(node.follow(follower));
      });
    });
  }

  #inputStaged(input: number, key: string): void {
    const cells = this.#cells[input]!;
    let cell = cells.get(key);
    if (!cell) {
      cell = new Cell(this, input, key);
      cells.set(key, cell);
    }
    this.stale(cell);
  }

  stale(cell: Cell<I, O>): void {
    if (this.#stale.size === 0) this.graph.markStale(this);
    this.#stale.add(cell);
  }

  *process(): Generator<void> {
    const stale = this.#stale;
    this.#stale = new Set();
    this.batches++;
    const touched = new Set<string>();
    for (const cell of stale) {
      if (this.#disposed) return;
      const value = this.#inputs[cell.input]!.current(cell.key);
      if (value === undefined) {
        this.#remake(cell, new Map(), touched);
        cell.listen(nothing);
        this.#failed.delete(cell);
        this.#cells[cell.input]!.delete(cell.key);
      } else {
        this.#compute(cell, value, touched);
      }
      yield;
    }
    for (const key of touched) this.#decide(key);
  }

  #compute(cell: Cell<I, O>, value: I, touched: Set<string>): void {
    const reads = new Set<ReaderSet>();
    const start = performance.now();
    this.graph.computing = true;
    try {
      const outputs = new Map<string, O>();
      for (const [key, output] of this.#make(value, recordingFetch(this, reads), cell.key)) {
        if (outputs.has(key)) throw new Error(`two outputs have the key ${key}`);
        if (output instanceof Promise) throw new TypeError("a compute function must not be asynchronous");
        outputs.set(key, output);
      }
      cell.failure = undefined;
      this.#failed.delete(cell);
      this.#remake(cell, outputs, touched);
    } catch (error) {
      const message = messageOf(error);
      if (message !== cell.failure) this.graph.markFailed({ collection: this.name, key: cell.key, message });
      cell.failure = message;
      this.#failed.add(cell);
    } finally {
      this.graph.computing = false;
      this.computations++;
      this.milliseconds += performance.now() - start;
    }
    cell.listen(reads);
  }

  /** Gives a cell its new outputs, and notes which keys have to be decided anew. */
  #remake(cell: Cell<I, O>, outputs: ReadonlyMap<string, O>, touched: Set<string>): void {
    for (const key of cell.outputs.keys()) {
      if (outputs.has(key)) continue;
      touched.add(key);
      const makers = this.#makers.get(key);
      if (makers === cell) this.#makers.delete(key);
      else if (makers instanceof Set) makers.delete(cell);
    }
    for (const key of outputs.keys()) {
      touched.add(key);
      const makers = this.#makers.get(key);
      if (makers === undefined) this.#makers.set(key, cell);
      else if (makers instanceof Set) makers.add(cell);
      else if (makers !== cell) this.#makers.set(key, new Set([makers, cell]));
    }
    cell.outputs = outputs;
  }

  #decide(key: string): void {
    let makers = this.#makers.get(key);
    if (makers instanceof Set && makers.size < 2) {
      const [only] = makers;
      makers = only;
      if (only) this.#makers.set(key, only);
      else this.#makers.delete(key);
    }
    if (!(makers instanceof Set)) this.#contested.delete(key);
    else if (!this.#contested.has(key)) {
      this.#contested.add(key);
      for (const error of this.#contests(key)) this.graph.markFailed(error);
    }
    this.stage(key, makers === undefined ? undefined : winner(makers).outputs.get(key));
  }

  override *errors(): Generator<ComputeError> {
    yield* super.errors();
    for (const cell of this.#failed) {
      yield { collection: this.name, key: cell.key, message: cell.failure ?? "" };
    }
    for (const key of this.#contested) yield* this.#contests(key);
  }

  /** The inputs whose output `key` another input makes already. */
  *#contests(key: string): Generator<ComputeError> {
    const makers = this.#makers.get(key);
    if (!(makers instanceof Set)) return;
    const has = winner(makers);
    for (const cell of makers) {
      if (cell === has) continue;
      yield { collection: this.name, key: cell.key, message: `its output ${key} is already made from ${has.key}` };
    }
  }

  /** What made the output `key`, and what that read; undefined when there is no such output. */
  origin(
    key: string,
  ): { input: { collection: string; key: string }; reads: Read[]; failure: string | undefined } | undefined {
    const makers = this.#makers.get(key);
    if (!makers) return undefined;
    const cell = winner(makers);
    return {
      input: { collection: this.#inputs[cell.input]!.name, key: cell.key },
      reads: [...cell.reads].map((one) => one.read),
      failure: cell.failure,
    };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const one of this.#following) one.dispose();
    for (const cells of this.#cells) for (const cell of cells.values()) cell.listen(nothing);
    this.graph.remove(this);
  }
}

/** The same whatever came first in time, so that a restart decides as before. */
function winner<I, O>(makers: Cell<I, O> | ReadonlySet<Cell<I, O>>): Cell<I, O> {
  if (makers instanceof Cell) return makers;
  let first: Cell<I, O> | undefined;
  for (const cell of makers) {
    if (!first || cell.input < first.input || (cell.input === first.input && cell.key < first.key)) first = cell;
  }
  return first!;
}

function recordingFetch<I, O>(by: DerivedNode<I, O>, reads: Set<ReaderSet>): Fetch {
  const check = <V>(node: Node<V>): Node<V> => {
    if (node.graph !== by.graph) throw new TypeError(`${by.name} fetches from ${node.name}, of another graph`);
    if (node.rank >= by.rank) throw new Error(`${by.name} fetches from ${node.name}, which was made after it`);
    return node;
  };
  return {
    one(collection, key) {
      const node = check(nodeOf(collection));
      reads.add(node.readersOf.of(key));
      return node.current(key);
    },
    where<V>(of: Index<V>, value: string) {
      if (!(of instanceof IndexNode)) throw new TypeError(`${of.name} is no index of this engine`);
      check(of.of);
      reads.add(of.readersOf.of(value));
      return of.current(value) as readonly V[];
    },
    all(collection) {
      const node = check(nodeOf(collection));
      reads.add(node.readersOfAll);
      return node.currentSorted();
    },
  };
}
