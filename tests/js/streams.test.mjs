// Streams: every mode, subgraphs, joining, resuming, and connections that break.
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";
import { client, collected, dataOf, eventually, newClient, newThread, url } from "./server.mjs";

const said = (content) => ({ messages: [{ role: "user", content }] });
const events = (parts) => parts.map((part) => part.event);

test("values and updates, step by step", async () => {
  const threadId = await newThread();
  let created;
  const parts = await collected(
    client.runs.stream(threadId, "line", {
      input: { kind: "x" },
      streamMode: ["values", "updates"],
      onRunCreated: (run) => (created = run),
    }),
  );
  assert.deepEqual(events(parts), ["metadata", "values", ...Array(3).fill(["updates", "values"]).flat()]);
  assert.equal(parts[0].data.run_id, created.run_id);
  assert.deepEqual(dataOf(parts, "updates"), [{ a: { log: ["a"] } }, { b: { log: ["b"] } }, { c: { log: ["c"] } }]);
  assert.deepEqual(dataOf(parts, "values").at(-1), { kind: "x", log: ["a", "b", "c"] });
});

test("tokens, as they are written", async () => {
  const parts = await collected(
    client.runs.stream(await newThread(), "chat", { input: said("1 + 2?"), streamMode: "messages-tuple" }),
  );
  assert.deepEqual([...new Set(events(parts))], ["metadata", "messages"]);
  const chunks = dataOf(parts, "messages");
  const answer = chunks.filter(([chunk]) => chunk.type === "AIMessageChunk" && chunk.id.startsWith("answer"));
  assert.deepEqual(answer.map(([chunk]) => chunk.content).filter(Boolean), ["The ", "sum is ", "3"]);
  assert.ok(answer.every(([, about]) => about.langgraph_node === "agent" && about.tags.includes("scripted")));
  assert.ok(chunks.some(([message]) => message.type === "tool" && message.content === "3"));
  const call = chunks.map(([chunk]) => chunk.tool_call_chunks ?? []).flat();
  assert.deepEqual(JSON.parse(call.map((piece) => piece.args).join("")), { a: 1, b: 2 });
});

test("tokens, added up", async () => {
  const parts = await collected(client.runs.stream(null, "chat", { input: said("1 + 2?"), streamMode: "messages" }));
  const texts = dataOf(parts, "messages/partial").map(([message]) => message.content);
  assert.deepEqual(texts.filter((text) => text.startsWith("The ")), ["The ", "The sum is ", ...Array(2).fill("The sum is 3")]);
  assert.deepEqual(dataOf(parts, "messages/complete").map(([message]) => message.type), ["ai", "tool"]);
});

test("custom events, debug, tasks, checkpoints and events", async () => {
  const threadId = await newThread();
  const streamMode = ["custom", "debug", "tasks", "checkpoints", "events"];
  const parts = await collected(client.runs.stream(threadId, "counting", { input: { count: 2 }, streamMode }));
  const seen = new Set(events(parts));
  for (const mode of ["metadata", "custom", "debug", "tasks", "checkpoints", "events"]) assert.ok(seen.has(mode), mode);
  assert.deepEqual(dataOf(parts, "custom"), [{ left: 2 }, { left: 1 }]);
  const tasks = dataOf(parts, "tasks");
  assert.equal(tasks.filter((task) => "input" in task).length, 2);
  assert.equal(tasks.filter((task) => "result" in task).length, 2);
  assert.deepEqual(dataOf(parts, "checkpoints").at(-1).values, { log: ["step", "step"], count: 0 });
  assert.ok(dataOf(parts, "events").some((event) => event.event === "on_chain_end"));
});

test("what happens in subgraphs, if it is asked for", async () => {
  const ask = async (streamSubgraphs) =>
    events(await collected(client.runs.stream(null, "nested", { input: {}, streamMode: ["updates", "custom"], streamSubgraphs })));
  assert.deepEqual(await ask(false), ["metadata", "updates", "updates"]);
  const seen = (await ask(true)).map((event) => event.replaceAll(/:[0-9a-f-]{36}/g, ""));
  assert.deepEqual(seen, [
    "metadata",
    "updates",
    "updates|child",
    "custom|child|grandchild",
    "updates|child|grandchild",
    "updates|child",
    "updates",
  ]);
});

test("a failure is the last event", async () => {
  const parts = await collected(client.runs.stream(null, "fail", { input: { kind: "CustomError" }, streamMode: "updates" }));
  assert.deepEqual(events(parts), ["metadata", "updates", "error"]);
  assert.deepEqual(parts.at(-1).data, { error: "CustomError", message: "An internal error occurred" });
});

test("a run in the background is joined in the middle", async () => {
  const threadId = await newThread();
  const run = await client.runs.create(threadId, "pause", { input: { seconds: 0.5 }, streamMode: ["updates", "values"] });
  const parts = await collected(client.runs.joinStream(threadId, run.run_id));
  assert.deepEqual(parts.at(-1).data.log, ["before", "waited"]);
  const other = await client.runs.create(threadId, "pause", { input: { seconds: 0.5 }, streamMode: ["updates", "values"] });
  const only = await collected(client.runs.joinStream(threadId, other.run_id, { streamMode: "updates" }));
  assert.deepEqual([...new Set(events(only))], ["updates"]);
});

test("a join may ask for several modes", async () => {
  const threadId = await newThread();
  const run = await client.runs.create(threadId, "counting", {
    input: { count: 1 },
    streamMode: ["updates", "values", "custom"],
    streamResumable: true,
  });
  await client.runs.join(threadId, run.run_id);
  const streamMode = ["updates", "custom"];
  const parts = await collected(client.runs.joinStream(threadId, run.run_id, { lastEventId: "-1", streamMode }));
  assert.deepEqual(events(parts), ["custom", "updates"]);
});

test("a resumable stream goes on after an event", async () => {
  const threadId = await newThread();
  const input = { count: 5 };
  const whole = await collected(
    client.runs.stream(threadId, "counting", { input, streamMode: "custom", streamResumable: true }),
  );
  const { run_id: runId } = whole[0].data;
  assert.ok(whole.every((part) => /^\d+-\d+$/.test(part.id)), "events have ids");
  for (const [index, part] of whole.entries()) {
    const rest = await collected(client.runs.joinStream(threadId, runId, { lastEventId: part.id }));
    assert.deepEqual(rest, whole.slice(index + 1));
  }
  assert.deepEqual(await collected(client.runs.joinStream(threadId, runId, { lastEventId: "-1" })), whole);
});

test("who leaves may cancel the run", async () => {
  const threadId = await newThread();
  const stop = new AbortController();
  const payload = { input: { seconds: 60 }, streamMode: "updates", onDisconnect: "cancel", signal: stop.signal };
  await assert.rejects(async () => {
    for await (const part of client.runs.stream(threadId, "pause", payload)) if (part.event === "updates") stop.abort();
    throw stop.signal.reason; // some versions end in silence
  });
  await eventually(
    () => client.runs.list(threadId),
    ([run]) => run.status === "interrupted",
  );
});

/** Passes requests on; the first stream is cut after so many events, the next one after so many, and within the next event. */
async function cuttingProxy(...counts) {
  const asked = [];
  const proxy = http.createServer((request, response) => {
    const count = counts[asked.push({ path: request.url, last: request.headers["last-event-id"] }) - 1];
    const headers = { ...request.headers, host: new URL(url).host };
    const forward = http.request(url + request.url, { method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      let seen = 0;
      let cut = false;
      answer.on("data", (chunk) => {
        const before = seen;
        seen += chunk.toString().split("event:").length - 1;
        if (count === undefined || seen <= count) return response.write(chunk);
        if (cut) return;
        cut = true;
        const pieces = chunk.toString().split(/(?=event:)/);
        response.write(pieces.slice(0, count - before).join("") + pieces[count - before].slice(0, 30));
        // a moment later, so that what was written has arrived
        setTimeout(() => response.destroy(), 50);
      });
      answer.on("end", () => response.end());
      answer.on("error", () => response.destroy());
    });
    forward.on("error", () => response.destroy());
    request.pipe(forward);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return { asked, address: `http://127.0.0.1:${proxy.address().port}`, close: () => proxy.close() };
}

test("a connection that breaks is taken up again by the SDK, and nothing is missed", async (context) => {
  const proxy = await cuttingProxy(2, 1);
  context.after(proxy.close);
  const threadId = await newThread();
  const through = newClient({ apiUrl: proxy.address });
  const payload = { input: { seconds: 1 }, streamMode: ["updates", "values"], streamResumable: true };
  const parts = await collected(through.runs.stream(threadId, "pause", payload));
  assert.deepEqual(events(parts), ["metadata", "values", "updates", "values", "updates", "values"]);
  assert.deepEqual(parts.at(-1).data.log, ["before", "waited"]);
  const again = proxy.asked.filter((request) => request.last);
  assert.equal(again.length, 2, "it was cut twice");
  assert.equal(new Set(again.map(({ last }) => last)).size, 2);
  for (const { path, last } of again) {
    assert.match(path, new RegExp(`^/threads/${threadId}/runs/[^/]+/stream`));
    assert.match(last, /^\d+-\d+$/);
  }
});
