// The same in JavaScript: npm install @langchain/langgraph-sdk; node five_minutes.mjs [URL]
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2] ?? "http://127.0.0.1:2024" });

console.log("# tokens, as the agent writes them");
let thread = await client.threads.create();
const question = { messages: [{ role: "user", content: "What is the weather in Oslo?" }] };
for await (const part of client.runs.stream(thread.thread_id, "chat_agent", {
  input: question,
  streamMode: "messages-tuple",
})) {
  if (part.event !== "messages") continue;
  const [message] = part.data;
  if (message.type === "AIMessageChunk" && message.content) process.stdout.write(`${message.content}|`);
}
console.log();

console.log("# a graph that asks before it acts");
thread = await client.threads.create();
const waiting = await client.runs.wait(thread.thread_id, "human_in_the_loop", {
  input: { topic: "the tea kitchen" },
});
console.log("draft: ", waiting.__interrupt__[0].value.draft);

console.log("# a person answers");
const done = await client.runs.wait(thread.thread_id, "human_in_the_loop", {
  command: { resume: "approve" },
});
console.log("sent:  ", done.sent);

console.log("# every step is a checkpoint, newest first");
for (const state of await client.threads.getHistory(thread.thread_id, { limit: 10 })) {
  console.log(state.metadata.step, state.metadata.source, "next:", state.next.join(", ") || "-");
}
