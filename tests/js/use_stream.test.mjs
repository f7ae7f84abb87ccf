// What `useStream` of React does, without React: the SDK's own manager of streams, fed by the requests that the hook makes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, current, eventually, newThread } from "./server.mjs";

const skip = !current && "npm's `latest` does not export it";

/** A chat as a page sees it: its messages grow, `submit` sends, `join` comes back after a reload. */
async function newChat(graphId) {
  const { MessageTupleManager, StreamManager } = await import("@langchain/langgraph-sdk/ui");
  const manager = new StreamManager(new MessageTupleManager(), { throttle: false });
  const options = (values) => ({
    getMessages: (from) => from.messages ?? [],
    setMessages: (from, messages) => ({ ...from, messages }),
    initialValues: values,
    callbacks: {},
    onSuccess: async () => undefined,
    onError: (error) => assert.fail(error),
  });
  const seen = [];
  manager.subscribe(() => seen.push(manager.values?.messages?.at(-1)?.content));
  return {
    manager,
    seen,
    submit: (threadId, payload, values = {}) =>
      manager.start(
        async (signal) =>
          client.runs.stream(threadId, graphId, {
            streamMode: ["values", "messages-tuple", "updates"],
            onDisconnect: "continue",
            streamResumable: true,
            signal,
            ...payload,
          }),
        options(values),
      ),
    join: (threadId, runId) =>
      manager.start(
        async (signal) => client.runs.joinStream(threadId, runId, { signal, lastEventId: "-1" }),
        options({}),
      ),
  };
}

const said = (content) => ({ messages: [{ type: "human", content }] });

test("a page shows an answer as it is written", { skip }, async () => {
  const threadId = await newThread();
  const chat = await newChat("chat");
  await chat.submit(threadId, { input: said("1 + 2?") });
  const { messages } = chat.manager.values;
  assert.deepEqual(messages.map((message) => message.type), ["human", "ai", "ai", "tool", "ai"]);
  assert.equal(messages.at(-1).content, "The sum is 3");
  assert.deepEqual(messages.map((each) => each.id), (await client.threads.getState(threadId)).values.messages.map((each) => each.id));
  const growing = [...new Set(chat.seen.filter((text) => text?.startsWith("The ")))];
  assert.deepEqual(growing.at(-1), "The sum is 3");
  assert.equal(chat.manager.isLoading, false);
});

test("a page that was reloaded joins the run that goes on", { skip }, async () => {
  const threadId = await newThread();
  let run;
  const before = await newChat("pause");
  const leaving = before.submit(threadId, {
    input: { seconds: 1 },
    onRunCreated: (created) => {
      run = created;
    },
  });
  await eventually(async () => run && before.manager.values?.log);
  await before.manager.stop({}, {});
  await leaving;
  const after = await newChat("pause");
  await after.join(threadId, run.run_id);
  assert.deepEqual(after.manager.values.log, ["before", "waited"]);
});

test("a page shows a question and sends its answer", { skip }, async () => {
  const threadId = await newThread();
  const chat = await newChat("ask");
  await chat.submit(threadId, { input: {} });
  assert.deepEqual(chat.manager.values.__interrupt__[0].value, { question: "ask" });
  await chat.submit(threadId, { command: { resume: "yes" } }, chat.manager.values);
  assert.deepEqual(chat.manager.values.log, ["before", "ask: yes", "after"]);
  assert.ok(!chat.manager.values.__interrupt__?.length);
});

test("a page shows the branches of a thread", { skip }, async () => {
  const { getBranchContext } = await import("@langchain/langgraph-sdk/ui");
  const threadId = await newThread();
  await client.runs.wait(threadId, "line", { input: {} });
  const history = await client.threads.getHistory(threadId);
  await client.runs.wait(threadId, "line", { input: null, checkpoint: history[2].checkpoint });
  const { branchByCheckpoint, threadHead } = getBranchContext("", await client.threads.getHistory(threadId, { limit: 100 }));
  const options = Object.values(branchByCheckpoint).map((each) => each.branchOptions?.length ?? 0);
  assert.ok(Math.max(...options) === 2, "two ways lead on from one checkpoint");
  assert.deepEqual(threadHead.next, []);
});
