// The store: what outlives threads.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, status, word } from "./server.mjs";

test("items are put, read, changed and deleted", async () => {
  const namespace = ["people", word()];
  assert.equal(await client.store.getItem(namespace, "name"), null);
  await client.store.putItem(namespace, "name", { first: "Ada" });
  const item = await client.store.getItem(namespace, "name");
  assert.deepEqual([item.namespace, item.key, item.value], [namespace, "name", { first: "Ada" }]);
  assert.ok(item.createdAt <= item.updatedAt);
  await client.store.putItem(namespace, "name", { first: "Grace" });
  const changed = await client.store.getItem(namespace, "name");
  assert.deepEqual([changed.value, changed.createdAt], [{ first: "Grace" }, item.createdAt]);
  await client.store.deleteItem(namespace, "name");
  assert.equal(await client.store.getItem(namespace, "name"), null);
});

test("items are found by namespace and filter, in pages", async () => {
  const root = word();
  for (let number = 0; number < 5; number++)
    await client.store.putItem([root, number % 2 ? "odd" : "even"], `k${number}`, { number, size: { cm: number * 10 } });
  const keys = async (prefix, query) => (await client.store.searchItems(prefix, query)).items.map((item) => item.key).sort();
  assert.deepEqual(await keys([root]), ["k0", "k1", "k2", "k3", "k4"]);
  assert.deepEqual(await keys([root, "odd"]), ["k1", "k3"]);
  assert.deepEqual(await keys([root], { filter: { number: 3 } }), ["k3"]);
  assert.deepEqual(await keys([root], { filter: { number: { $gte: 3 } } }), ["k3", "k4"]);
  assert.deepEqual(await keys([word()]), []);
  const pages = [await keys([root], { limit: 2 }), await keys([root], { limit: 2, offset: 2 }), await keys([root], { limit: 2, offset: 4 })];
  assert.deepEqual(pages.flat().sort(), ["k0", "k1", "k2", "k3", "k4"]);
});

test("namespaces are listed", async () => {
  const root = word();
  for (const path of [["a", "x"], ["a", "y"], ["b", "x"]]) await client.store.putItem([root, ...path], "k", { v: 1 });
  const list = async (query) => (await client.store.listNamespaces({ prefix: [root], ...query })).namespaces;
  assert.deepEqual(await list(), [[root, "a", "x"], [root, "a", "y"], [root, "b", "x"]]);
  assert.deepEqual(await list({ maxDepth: 2 }), [[root, "a"], [root, "b"]]);
  assert.deepEqual(await list({ suffix: ["x"] }), [[root, "a", "x"], [root, "b", "x"]]);
  assert.deepEqual(await list({ limit: 1, offset: 1 }), [[root, "a", "y"]]);
});

test("an item may have a time to live, and need not be indexed", async () => {
  const namespace = [word()];
  await client.store.putItem(namespace, "brief", { v: 1 }, { ttl: 60, index: false });
  assert.deepEqual((await client.store.getItem(namespace, "brief", { refreshTtl: true })).value, { v: 1 });
});

test("namespaces that make no sense are refused", async () => {
  await assert.rejects(client.store.putItem([], "k", { v: 1 }), status(400));
  await assert.rejects(client.store.putItem(["langgraph"], "k", { v: 1 }), status(400));
  await assert.rejects(client.store.putItem(["a.b"], "k", { v: 1 }), /cannot contain periods/, "the SDK says so itself");
});
