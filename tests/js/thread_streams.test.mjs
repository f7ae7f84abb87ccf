// Threads as the current SDK streams them: `client.threads.stream` over both transports, and what `useStream` is made of,
// without React. They speak the thread protocol: commands, events, sequence numbers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, current, eventually, word } from "./server.mjs";

const ASKED = { messages: [{ role: "user", content: "1 + 2?" }] };

for (const transport of ["sse", "websocket"]) {
  const skip =
    (!current && "npm's `latest` has no `threads.stream`") ||
    (transport === "websocket" && !globalThis.WebSocket && "this Node has no WebSocket");

  const named = (name, run) => test(`${name} (${transport})`, { skip, timeout: 60_000 }, run);
  /** A thread that is closed when `use` is done. */
  const opened = async (assistantId, use, threadId = word()) => {
    const thread = client.threads.stream(threadId, { assistantId, transport });
    try {
      return await use(thread);
    } finally {
      await thread.close();
    }
  };

  named("a run, its states and its output", () =>
    opened("line", async (thread) => {
      const states = all(thread.values);
      const { run_id: runId } = await thread.run.start({ input: { kind: "x" }, metadata: { by: "me" } });
      assert.deepEqual(await thread.output, { log: ["a", "b", "c"], kind: "x" });
      assert.ok((await states).some((state) => state.log.length === 1));
      assert.equal((await client.runs.get(thread.threadId, runId)).metadata.by, "me");
      assert.equal(thread.interrupted, false);
    }));

  named("messages grow word by word, and tools are called", () =>
    opened("chat", async (thread) => {
      const spoken = (async () => {
        const said = [];
        for await (const message of thread.messages) said.push(all(message.text));
        return Promise.all(said);
      })();
      const calls = all(thread.toolCalls);
      await thread.run.start({ input: ASKED });
      assert.deepEqual(await spoken, [["Let me see."], ["The ", "sum is ", "3"]]);
      const [call] = await calls;
      assert.deepEqual([call.name, call.input], ["add", { a: 1, b: 2 }]);
      const { messages } = await thread.output;
      assert.deepEqual(messages.map((message) => message.type ?? message.getType()), ["human", "ai", "ai", "tool", "ai"]);
    }));

  named("subgraphs", () =>
    opened("nested", async (thread) => {
      const found = all(thread.subgraphs);
      await thread.run.start({ input: {} });
      assert.deepEqual((await found).map((child) => child.name), ["child"]);
    }));

  named("raw channels, below one subgraph only", () =>
    opened("nested", async (thread) => {
      const deep = await thread.subscribe({ channels: ["custom", "values"], namespaces: [["child", "grandchild"]] });
      await thread.run.start({ input: {} });
      const events = [];
      for await (const event of deep) events.push(event);
      assert.ok(events.every(({ params }) => params.namespace.length === 2));
      const said = events.filter(({ method }) => method === "custom");
      assert.deepEqual(said.map(({ params }) => params.data.payload), ["deep down"]);
    }));

  named("a question, its answer, and a second answer that is too late", () =>
    opened("ask", async (thread) => {
      await thread.run.start({ input: {} });
      await eventually(() => thread.interrupts.length === 1);
      const [{ interruptId, payload, namespace }] = thread.interrupts;
      assert.deepEqual([payload, namespace], [{ question: "ask" }, []]);
      await thread.input.respond({ namespace, interrupt_id: interruptId, response: "yes" });
      // the SDK's `output` may be that of the run that asked
      await eventually(() => client.threads.get(thread.threadId), ({ status, values }) => status === "idle" && values.log.length === 3);
      const late = thread.input.respond({ namespace, interrupt_id: interruptId, response: "no" });
      await assert.rejects(late, /no_such_interrupt|already-consumed/);
    }));

  named("two questions in one answer, with an update", () =>
    opened("ask_two", async (thread) => {
      await thread.run.start({ input: {} });
      await eventually(() => thread.interrupts.length === 2);
      const responses = thread.interrupts.map(({ interruptId, payload, namespace }) => ({
        namespace,
        interrupt_id: interruptId,
        response: `${payload.question}!`,
      }));
      await thread.input.respond({ responses, update: { log: ["by the way"] } });
      const { log } = (await eventually(() => client.threads.get(thread.threadId), ({ status }) => status === "idle")).values;
      assert.deepEqual([...log].sort(), ["after", "by the way", "left: left!", "right: right!"]);
    }));

  named("a failure, and a command that is refused", async () => {
    await opened("fail", async (thread) => {
      const lives = await thread.subscribe("lifecycle");
      await thread.run.start({ input: { kind: "CustomError" } });
      for await (const { params } of lives) {
        if (params.data.event === "running") continue;
        assert.deepEqual(params.data, { event: "failed", graph_name: "fail", error: "An internal error occurred" });
        break;
      }
    });
    await opened("nobody", (thread) => assert.rejects(thread.run.start({ input: {} }), /Invalid assistant: 'nobody'/));
  });

  named("states, checkpoints and a fork", () =>
    opened("line", async (thread) => {
      await thread.run.start({ input: { kind: "x" } });
      await thread.output;
      const { values, checkpoint } = await thread.state.get({ namespace: [], keys: ["log"] });
      assert.deepEqual(values, { log: ["a", "b", "c"] });
      const { checkpoints } = await thread.state.listCheckpoints({ limit: 10 });
      assert.equal(checkpoints[0].id, checkpoint.id);
      assert.deepEqual(checkpoints.map(({ step }) => step), [3, 2, 1, 0, -1]);
      const forked = await thread.state.fork({ checkpoint_id: checkpoints[2].id });
      assert.equal(forked.thread_id, thread.threadId);
      const output = await client.runs.join(forked.thread_id, forked.run_id);
      assert.deepEqual(output.log, ["a", "b", "c"], "it went on after the first node");
      await assert.rejects(thread.state.fork({ checkpoint_id: word() }), /no_such_checkpoint|Unknown checkpoint/);
      await assert.rejects(thread.input.inject({ namespace: [], message: { role: "user", content: "" } }), /not supported/);
    }));

  named("what useStream is made of: a chat, a reload, a second turn", async () => {
    const { StreamController } = await import("@langchain/langgraph-sdk/stream");
    const threadId = word();
    const open = () => new StreamController({ assistantId: "chat", client, threadId, transport });
    const before = open();
    await before.submit(ASKED);
    // its two subscriptions race: the end of a short run may be there before its messages
    await eventually(() => last(before), (said) => said === "The sum is 3");
    assert.deepEqual(types(before), ["human", "ai", "ai", "tool", "ai"]);
    assert.equal(before.rootStore.getSnapshot().isLoading, false);
    await before.dispose();

    const after = open();
    await after.hydrate(threadId);
    assert.equal(last(after), "The sum is 3");
    await after.submit({ messages: [{ role: "user", content: "again" }] });
    await eventually(() => types(after), (found) => found.filter((type) => type === "human").length === 2);
    await after.dispose();
  });

  named("what useStream is made of: a question and its answer", async () => {
    const { StreamController } = await import("@langchain/langgraph-sdk/stream");
    const threadId = word();
    const page = new StreamController({ assistantId: "ask", client, threadId, transport });
    await page.submit({});
    const { interrupt } = await eventually(
      () => page.rootStore.getSnapshot(),
      (root) => root.interrupt !== undefined && !root.isLoading,
    );
    assert.deepEqual(interrupt.value, { question: "ask" });
    await page.respond("yes");
    const root = await eventually(
      () => page.rootStore.getSnapshot(),
      ({ values, isLoading }) => !isLoading && values.log?.length === 3,
    );
    assert.deepEqual(root.values.log, ["before", "ask: yes", "after"]);
    assert.deepEqual(root.interrupts, []);
    await page.dispose();
  });
}

async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

const messagesOf = (page) => page.rootStore.getSnapshot().messages;
const types = (page) => messagesOf(page).map((message) => message.type ?? message.getType());
const last = (page) => {
  const content = messagesOf(page).at(-1)?.content;
  return Array.isArray(content) ? content.map((block) => block.text ?? "").join("") : content;
};
