// The server under test and the client that asks it, for all files of this folder.
//
// LANGGRAPH_URL names a server that serves tests/fixtures/projects/differential. LANGGRAPH_SDK names the package to use:
// npm has two lines of the SDK, the one that LangGraph itself depends on, and an older one under the tag `latest`.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

export const sdk = process.env.LANGGRAPH_SDK ?? "@langchain/langgraph-sdk";
/** Whether the SDK is the line that goes on; it knows parameters that `latest` does not. */
export const current = sdk === "@langchain/langgraph-sdk";
const { Client } = await import(sdk);

export const url = process.env.LANGGRAPH_URL;
assert.ok(url, "LANGGRAPH_URL is not set");

export const newClient = (options = {}) =>
  new Client({ apiUrl: url, apiKey: null, callerOptions: { maxRetries: 0 }, ...options });
export const client = newClient();

/** A word that no other test uses, for metadata and namespaces. */
export const word = () => randomUUID();

export const newThread = async () => (await client.threads.create()).thread_id;

export async function collected(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

export const dataOf = (parts, event) => parts.filter((part) => part.event === event).map((part) => part.data);

/** What `look` finds once it is good. */
export async function eventually(look, good = Boolean) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (good(found)) return found;
    assert.ok(Date.now() < deadline, `waited too long; last seen: ${JSON.stringify(found)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The error is the server's answer with this status. */
export const status = (number) => (error) => error.status === number || assert.fail(`${number} expected, got ${error}`);
