// RemoteGraph of LangGraph itself: a served graph used like a local one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HumanMessage } from "@langchain/core/messages";
import { Annotation, Command, END, isGraphInterrupt, MemorySaver, MessagesAnnotation, Send, START, StateGraph } from "@langchain/langgraph";
import { RemoteGraph } from "@langchain/langgraph/remote";
import { eventually, newThread, url, word } from "./server.mjs";

const remote = (graphId, options) => new RemoteGraph({ graphId, url, apiKey: "none", ...options });
const thread = async () => ({ configurable: { thread_id: await newThread() } });

async function collected(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

test("it is invoked, on a thread and on none", async () => {
  const graph = remote("line");
  assert.deepEqual(await graph.invoke({}), { log: ["a", "b", "c"] });
  const config = await thread();
  await graph.invoke({ kind: "x" }, config);
  assert.deepEqual((await graph.getState(config)).values, { kind: "x", log: ["a", "b", "c"] });
  const made = { configurable: { thread_id: word() } };
  assert.deepEqual(await graph.invoke({}, made), { log: ["a", "b", "c"] }, "a thread that is not there is made");
});

test("it streams: updates, several modes, subgraphs, tokens", async () => {
  const updates = await collected(remote("line").stream({}, { streamMode: "updates" }));
  assert.deepEqual(updates, [{ a: { log: ["a"] } }, { b: { log: ["b"] } }, { c: { log: ["c"] } }]);
  const both = await collected(remote("counting").stream({ count: 1 }, { streamMode: ["custom", "values"] }));
  assert.deepEqual(both, [
    ["values", { log: [], count: 1 }],
    ["custom", { left: 1 }],
    ["values", { log: ["step"], count: 0 }],
  ]);
  const below = await collected(remote("nested").stream({}, { streamMode: "updates", subgraphs: true }));
  assert.deepEqual(below.map(([namespace]) => namespace.length), [0, 1, 2, 1, 0]);
  const question = { messages: [new HumanMessage("1 + 2?")] };
  const tokens = await collected(remote("chat").stream(question, { streamMode: "messages" }));
  assert.ok(tokens.length > 3);
});

test("its state is read, written and looked back at", async () => {
  const graph = remote("line");
  const config = await thread();
  // a breakpoint is an interrupt without a question
  await assert.rejects(graph.invoke({}, { ...config, interruptBefore: ["c"] }), isGraphInterrupt);
  const state = await eventually(() => graph.getState(config), (found) => found.next[0] === "c");
  assert.deepEqual([state.next, state.values.log], [["c"], ["a", "b"]]);
  const written = await graph.updateState(config, { log: ["by hand"] }, "b");
  assert.equal(written.configurable.thread_id, config.configurable.thread_id);
  assert.deepEqual(await graph.invoke(null, config), { log: ["a", "b", "by hand", "c"] });
  const history = await collected(graph.getStateHistory(config, { limit: 100 }));
  assert.equal(history.length, 6);
  const then = await graph.getState(history.at(-2).config);
  assert.deepEqual(then.next, ["a"]);
});

test("it asks and is answered", async () => {
  const graph = remote("ask");
  const config = await thread();
  await assert.rejects(graph.invoke({}, config), isGraphInterrupt);
  // it raises as soon as the stream says so, which may be before the checkpoint is written
  const state = await eventually(() => graph.getState(config), (found) => found.tasks[0]?.interrupts.length);
  assert.deepEqual(state.tasks[0].interrupts[0].value, { question: "ask" });
  const done = await graph.invoke(new Command({ resume: "yes" }), config);
  assert.deepEqual(done.log, ["before", "ask: yes", "after"]);
});

test("its commands are those of LangGraph", async () => {
  const graph = remote("fan_out");
  const config = await thread();
  await graph.invoke({ count: 1 }, config);
  const sent = await graph.invoke(new Command({ goto: [new Send("worker", { count: 5 })] }), config);
  assert.deepEqual(sent.log, ["scatter", "worker 0", "worker 5"]);
  const gone = await graph.invoke(new Command({ goto: "worker", update: { count: 3 } }), config);
  assert.deepEqual(gone.log, ["scatter", "worker 0", "worker 5", "worker 3"]);
});

test("a failure is an exception", async () => {
  await assert.rejects(remote("fail").invoke({ kind: "ValueError" }), (error) => {
    assert.equal(error.name, "RemoteException");
    return /wrong: ValueError/.test(error.message);
  });
});

test("a config is kept", async () => {
  const graph = remote("dump").withConfig({ configurable: { color: "red" }, metadata: { by: "me" } });
  const { saw } = await graph.invoke({});
  assert.deepEqual([saw.configurable.color, saw.metadata.by], ["red", "me"]);
  const context = await remote("dump_context").invoke({}, { context: { tone: "dry" } });
  assert.equal(context.saw.context.tone, "dry");
});

test("it is drawn", async () => {
  const drawing = await remote("nested").getGraphAsync({ xray: true });
  assert.ok("child:grandchild:deep" in drawing.nodes, Object.keys(drawing.nodes).join());
});

test("it is a node of a local graph", async () => {
  const State = Annotation.Root({ log: Annotation({ reducer: (old, more) => old.concat(more), default: () => [] }) });
  const graph = new StateGraph(State)
    .addNode("local", () => ({ log: ["local"] }))
    .addNode("remote", remote("line"))
    .addEdge(START, "local")
    .addEdge("local", "remote")
    .addEdge("remote", END)
    .compile();
  const done = await graph.invoke({ log: ["first"] });
  assert.deepEqual(done.log, ["first", "local", "first", "local", "a", "b", "c"]);

  const chat = new StateGraph(MessagesAnnotation)
    .addNode("remote", remote("chat"))
    .addEdge(START, "remote")
    .compile({ checkpointer: new MemorySaver() });
  const said = await chat.invoke({ messages: [new HumanMessage("1 + 2?")] }, { configurable: { thread_id: word() } });
  assert.equal(said.messages.at(-1).content, "The sum is 3");
});
