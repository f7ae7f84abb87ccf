// The JavaScript SDK beyond the first five minutes: follow, cancel, fork, remember.
//
//     npm install @langchain/langgraph-sdk; node javascript_client.mjs [URL]
import { randomUUID } from "node:crypto";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2] ?? "http://127.0.0.1:2024" });
const user = randomUUID();

console.log("# a run in the background, followed from elsewhere");
const thread = await client.threads.create({ metadata: { user } });
const run = await client.runs.create(thread.thread_id, "long_run", {
  input: { steps: 2, seconds: 0.1 },
  streamMode: "custom",
  streamResumable: true,
});
for await (const part of client.runs.joinStream(thread.thread_id, run.run_id, { lastEventId: "-1" })) {
  if (part.event === "custom") console.log(part.data);
}
console.log((await client.runs.join(thread.thread_id, run.run_id)).log);

console.log("# a run that takes too long");
const long = await client.runs.create(thread.thread_id, "long_run", { input: { steps: 600 } });
await client.runs.cancel(thread.thread_id, long.run_id, true);
console.log((await client.runs.get(thread.thread_id, long.run_id)).status);

console.log("# two answers to one question");
const draft = await client.threads.create({ metadata: { user } });
await client.runs.wait(draft.thread_id, "human_in_the_loop", { input: { topic: "tea" } });
const asked = await client.threads.getState(draft.thread_id);
for (const resume of [{ action: "reject" }, "approve"]) {
  await client.runs.wait(draft.thread_id, "human_in_the_loop", { input: null, checkpoint: asked.checkpoint });
  console.log((await client.runs.wait(draft.thread_id, "human_in_the_loop", { command: { resume } })).status);
}

console.log("# what outlives threads");
await client.store.putItem(["memories", user], "name", { value: "Ada" });
const answer = await client.runs.wait(null, "chat_agent", {
  input: { messages: [{ role: "user", content: "What is my name?" }] },
  context: { user_id: user },
});
console.log(answer.messages.at(-1).content);
