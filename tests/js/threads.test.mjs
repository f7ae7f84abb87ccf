// Threads, their states and histories.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, current, eventually, newThread, status, word } from "./server.mjs";

const logOf = (state) => state.values.log;

test("one is made, found, changed and deleted", async () => {
  const owner = word();
  const made = await client.threads.create({ metadata: { owner, color: "red" } });
  assert.equal(made.status, "idle");
  assert.deepEqual((await client.threads.get(made.thread_id)).metadata, { owner, color: "red" });
  const changed = await client.threads.update(made.thread_id, { metadata: { color: "blue" } });
  assert.deepEqual(changed.metadata, { owner, color: "blue" }, "metadata are merged");
  assert.equal(await client.threads.count({ metadata: { owner } }), 1);
  await client.threads.delete(made.thread_id);
  await assert.rejects(client.threads.get(made.thread_id), status(404));
  assert.equal(await client.threads.count({ metadata: { owner } }), 0);
});

test("one with a given id is made once", async () => {
  const threadId = word();
  await client.threads.create({ threadId, metadata: { first: true } });
  await assert.rejects(client.threads.create({ threadId }), status(409));
  const found = await client.threads.create({ threadId, ifExists: "do_nothing" });
  assert.deepEqual(found.metadata, { first: true });
});

test("a search by metadata, status, values and ids, in pages and columns", async () => {
  const owner = word();
  const ids = [];
  for (const place of ["a", "b", "c"])
    ids.push((await client.threads.create({ metadata: { owner, place } })).thread_id);
  await client.runs.wait(ids[1], "counting", { input: { count: 0, kind: owner } });
  await client.runs.wait(ids[2], "ask", { input: {} });
  const found = async (query) => (await client.threads.search(query)).map((thread) => thread.thread_id);
  assert.deepEqual(await found({ metadata: { owner }, sortBy: "created_at", sortOrder: "asc" }), ids);
  assert.deepEqual(await found({ metadata: { owner }, sortBy: "created_at", sortOrder: "desc", limit: 1, offset: 1 }), [ids[1]]);
  assert.deepEqual(await found({ metadata: { owner, place: "a" } }), [ids[0]]);
  assert.deepEqual(await found({ metadata: { owner }, status: "interrupted" }), [ids[2]]);
  assert.deepEqual(await found({ values: { kind: owner } }), [ids[1]]);
  assert.deepEqual(await found({ ids: [ids[0]] }), [ids[0]]);
  assert.equal(await client.threads.count({ values: { kind: owner } }), 1);
  const [cut] = await client.threads.search({ ids: [ids[1]], select: ["thread_id", "status"] });
  assert.deepEqual(cut, { thread_id: ids[1], status: "idle" });
});

test("values can be extracted from what is found", { skip: !current && "npm's `latest` has no `extract`" }, async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: {} });
  const [found] = await client.threads.search({
    ids: [threadId],
    select: ["thread_id"],
    extract: { last: "values.log[-1]", none: "values.nothing" },
  });
  assert.deepEqual(found, { thread_id: threadId, extracted: { last: "c", none: null } });
});

test("the state, written by hand and by nodes", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: { kind: "x" } });
  const state = await client.threads.getState(threadId);
  assert.deepEqual([logOf(state), state.next, state.metadata.source], [["a", "b", "c"], [], "loop"]);

  const written = await client.threads.updateState(threadId, { values: { log: ["by hand"] }, asNode: "a" });
  const now = await client.threads.getState(threadId);
  assert.equal(now.checkpoint.checkpoint_id, written.checkpoint.checkpoint_id);
  assert.deepEqual([logOf(now), now.next, now.metadata.source], [["a", "b", "c", "by hand"], ["b"], "update"]);
  const values = await client.runs.wait(threadId, "line", { input: null });
  assert.deepEqual(values.log, ["a", "b", "c", "by hand", "b", "c"], "it goes on after the node that was named");

  const byId = await client.threads.getState(threadId, state.checkpoint.checkpoint_id);
  const byCheckpoint = await client.threads.getState(threadId, state.checkpoint);
  assert.deepEqual([logOf(byId), logOf(byCheckpoint)], [["a", "b", "c"], ["a", "b", "c"]]);
  await assert.rejects(client.threads.updateState(threadId, { values: {}, asNode: "nobody" }), status(400));
});

test("parts of a state", { skip: !current && "npm's `latest` has no `select`" }, async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: { kind: "x", count: 1 } });
  const whole = await client.threads.getState(threadId);
  const kind = await client.threads.getState(threadId, undefined, { select: ["values.kind", "values.nothing"] });
  assert.deepEqual(kind, { values: { kind: "x" } });
  const byId = await client.threads.getState(threadId, whole.checkpoint.checkpoint_id, { select: ["next", "values"] });
  assert.deepEqual(byId, { values: whole.values, next: [] });
  const byCheckpoint = await client.threads.getState(threadId, whole.checkpoint, { select: ["values.count"] });
  assert.deepEqual(byCheckpoint, { values: { count: 1 } });
  const history = await client.threads.getHistory(threadId, { select: ["next"] });
  assert.deepEqual(history.map((state) => state.next.join()), ["", "c", "b", "a", "__start__"]);
  assert.deepEqual(Object.keys(history[0]), ["next"]);
  await assert.rejects(client.threads.getState(threadId, undefined, { select: ["nonsense"] }), status(422));
});

test("the history, and a fork from its middle", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: {}, metadata: { turn: 1 } });
  const history = await client.threads.getHistory(threadId);
  assert.deepEqual(history.map((state) => state.next.join()), ["", "c", "b", "a", "__start__"]);
  const short = await client.threads.getHistory(threadId, { limit: 2 });
  assert.deepEqual(short, history.slice(0, 2));
  const before = await client.threads.getHistory(threadId, { before: { configurable: history[1].checkpoint } });
  assert.deepEqual(before, history.slice(2));
  const inputs = await client.threads.getHistory(threadId, { metadata: { source: "input" } });
  assert.deepEqual(inputs, history.slice(4));

  const beforeB = history[2].checkpoint;
  const fork = await client.threads.updateState(threadId, {
    values: { log: ["other"] },
    checkpointId: beforeB.checkpoint_id,
  });
  const values = await client.runs.wait(threadId, "line", { input: null, checkpoint: fork.checkpoint });
  assert.deepEqual(values.log, ["a", "other", "b", "c"]);
  const retried = await client.runs.wait(threadId, "line", { input: null, checkpointId: beforeB.checkpoint_id });
  assert.deepEqual(retried.log, ["a", "b", "c"], "the first branch is still there");
});

test("the states of subgraphs", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "ask_below", { input: {} });
  const flat = await client.threads.getState(threadId);
  assert.equal(flat.tasks[0].state, null);
  assert.match(flat.tasks[0].checkpoint.checkpoint_ns, /^child:/);
  const deep = await client.threads.getState(threadId, undefined, { subgraphs: true });
  assert.deepEqual(deep.tasks[0].state.next, ["ask"]);
  const below = await client.threads.getState(threadId, flat.tasks[0].checkpoint);
  assert.deepEqual(below.next, ["ask"]);
});

test("a thread begins with a past of its own", async () => {
  const thread = await client.threads.create({
    graphId: "line",
    supersteps: [
      { updates: [{ values: { log: ["early"] }, asNode: "a" }] },
      { updates: [{ values: { log: ["late"] }, asNode: "b" }] },
    ],
  });
  const state = await client.threads.getState(thread.thread_id);
  assert.deepEqual([logOf(state), state.next], [["early", "late"], ["c"]]);
  const values = await client.runs.wait(thread.thread_id, "line", { input: null });
  assert.deepEqual(values.log, ["early", "late", "c"]);
});

test("a copy has the same past and another future", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: {} });
  const copy = await client.threads.copy(threadId);
  assert.notEqual(copy.thread_id, threadId);
  await client.runs.wait(copy.thread_id, "line", { input: {} });
  assert.deepEqual(logOf(await client.threads.getState(copy.thread_id)), ["a", "b", "c", "a", "b", "c"]);
  assert.deepEqual(logOf(await client.threads.getState(threadId)), ["a", "b", "c"]);
  assert.equal((await client.threads.getHistory(copy.thread_id, { limit: 100 })).length, 10);
});

test("a thread whose time is over is gone", async () => {
  const minute = await client.threads.create({ ttl: 1 });
  assert.equal((await client.threads.get(minute.thread_id)).status, "idle");
  const short = await client.threads.create({ ttl: { ttl: 0.01, strategy: "delete" } });
  const gone = () => client.threads.get(short.thread_id).then(() => false, status(404));
  await eventually(gone);
  assert.ok(await client.threads.get(minute.thread_id));
});

test("what is not there is 404", async () => {
  await assert.rejects(client.threads.get(word()), status(404));
  await assert.rejects(client.threads.getState(word()), status(404));
  await assert.rejects(client.threads.getHistory(word()), status(404));
  await assert.rejects(client.threads.update(word(), { metadata: {} }), status(404));
  await assert.rejects(client.threads.get("no uuid"), status(422));
});
