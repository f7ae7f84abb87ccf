// A graph stops and asks; a person answers, edits, or takes another way.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, collected, dataOf, newThread } from "./server.mjs";

test("a graph asks, and goes on with the answer", async () => {
  const threadId = await newThread();
  const asked = await client.runs.wait(threadId, "ask", { input: {} });
  const [interrupt] = asked.__interrupt__;
  assert.deepEqual(interrupt.value, { question: "ask" });
  assert.equal((await client.runs.list(threadId))[0].status, "success");

  const thread = await client.threads.get(threadId);
  assert.equal(thread.status, "interrupted");
  assert.deepEqual(Object.values(thread.interrupts).flat().map((each) => each.id), [interrupt.id]);
  const state = await client.threads.getState(threadId);
  assert.deepEqual(state.next, ["ask"]);
  assert.equal(state.tasks[0].interrupts[0].id, interrupt.id);

  const done = await client.runs.wait(threadId, "ask", { command: { resume: "yes" } });
  assert.deepEqual(done.log, ["before", "ask: yes", "after"]);
  const idle = await client.threads.get(threadId);
  assert.deepEqual([idle.status, idle.interrupts], ["idle", {}]);
});

test("two questions are answered by their ids", async () => {
  const threadId = await newThread();
  const { __interrupt__: asked } = await client.runs.wait(threadId, "ask_two", { input: {} });
  assert.deepEqual(asked.map((each) => each.value.question).sort(), ["left", "right"]);
  const resume = Object.fromEntries(asked.map((each) => [each.id, `${each.value.question}!`]));
  const done = await client.runs.wait(threadId, "ask_two", { command: { resume } });
  assert.deepEqual(done.log, ["left: left!", "right: right!", "after"]);
});

test("questions and answers are streamed, from below too", async () => {
  const threadId = await newThread();
  const streamMode = ["updates", "values"];
  const asking = await collected(client.runs.stream(threadId, "ask_below", { input: {}, streamMode, streamSubgraphs: true }));
  const [interrupt] = dataOf(asking, "updates").at(-1).__interrupt__;
  assert.deepEqual(interrupt.value, { question: "below" });
  assert.equal(dataOf(asking, "values").at(-1).__interrupt__[0].id, interrupt.id);
  const answering = await collected(client.runs.stream(threadId, "ask_below", { command: { resume: 7 }, streamMode: "values" }));
  assert.deepEqual(answering.at(-1).data.log, ["before", "before", "below: 7"]);
});

test("a run stops before and after nodes", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: {}, interruptBefore: ["b"] });
  assert.deepEqual((await client.threads.getState(threadId)).next, ["b"]);
  await client.runs.wait(threadId, "line", { input: null, interruptAfter: ["b"] });
  assert.deepEqual((await client.threads.getState(threadId)).next, ["c"]);
  const every = await newThread();
  await client.runs.wait(every, "line", { input: {}, interruptBefore: "*" });
  assert.deepEqual((await client.threads.getState(every)).next, ["a"]);
  const done = await client.runs.wait(threadId, "line", { input: null });
  assert.deepEqual(done.log, ["a", "b", "c"]);
});

test("a command updates the state and chooses the next node", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: {} });
  const done = await client.runs.wait(threadId, "line", { command: { update: { log: ["jump"] }, goto: "c" } });
  assert.deepEqual(done.log, ["a", "b", "c", "jump", "c"]);
});

test("the question is asked again from an earlier checkpoint", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "ask", { input: {} });
  const asking = await client.threads.getState(threadId);
  await client.runs.wait(threadId, "ask", { command: { resume: "no" } });
  const again = await client.runs.wait(threadId, "ask", { input: null, checkpoint: asking.checkpoint });
  assert.equal(again.__interrupt__[0].value.question, "ask");
  const done = await client.runs.wait(threadId, "ask", { command: { resume: "yes" } });
  assert.deepEqual(done.log, ["before", "ask: yes", "after"]);
});
