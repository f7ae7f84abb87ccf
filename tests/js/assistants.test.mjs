// Assistants: one project, many configurations of its graphs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, status, word } from "./server.mjs";

/** The assistant that every graph has. */
const idOf = async (graphId) => {
  const [found] = await client.assistants.search({ graphId, metadata: { created_by: "system" } });
  return found.assistant_id;
};

test("every graph has an assistant from the start", async () => {
  const [found, ...others] = await client.assistants.search({ graphId: "line", metadata: { created_by: "system" } });
  assert.deepEqual(others, []);
  assert.equal(found.name, "line");
  assert.equal((await client.assistants.get(found.assistant_id)).graph_id, "line");
});

test("one is made, found, changed, set back and deleted", async () => {
  const owner = word();
  const made = await client.assistants.create({
    graphId: "dump_context",
    name: "Polite",
    description: "It bows",
    context: { tone: "polite" },
    metadata: { owner },
  });
  const { assistant_id: id } = made;
  assert.equal(made.version, 1);
  assert.deepEqual(await client.assistants.get(id), made);

  const changed = await client.assistants.update(id, {
    graphId: "dump_context",
    name: "Curt",
    context: { tone: "curt" },
    metadata: { season: "winter" },
  });
  assert.equal(changed.version, 2);
  assert.deepEqual(changed.metadata, { owner, season: "winter" }, "metadata are merged");
  assert.equal(changed.description, "It bows", "what was not named stays");
  const versions = await client.assistants.getVersions(id);
  assert.deepEqual(versions.map((each) => [each.version, each.name]), [[2, "Curt"], [1, "Polite"]]);
  assert.deepEqual((await client.assistants.getVersions(id, { limit: 1, offset: 1 })).map((each) => each.version), [1]);

  const said = await client.runs.wait(null, id, { input: {} });
  assert.equal(said.saw.context.tone, "curt");
  assert.equal((await client.assistants.setLatest(id, 1)).name, "Polite");
  const again = await client.runs.wait(null, id, { input: {} });
  assert.equal(again.saw.context.tone, "polite", "runs use the version that was set");

  assert.deepEqual((await client.assistants.search({ metadata: { owner } })).map((each) => each.assistant_id), [id]);
  await client.assistants.delete(id);
  await assert.rejects(client.assistants.get(id), status(404));
  assert.deepEqual(await client.assistants.search({ metadata: { owner } }), []);
});

test("one with a given id is made once", async () => {
  const assistantId = word();
  const payload = { graphId: "line", assistantId, name: "mine" };
  const made = await client.assistants.create(payload);
  assert.equal(made.assistant_id, assistantId);
  await assert.rejects(client.assistants.create(payload), status(409));
  const found = await client.assistants.create({ ...payload, name: "other", ifExists: "do_nothing" });
  assert.equal(found.name, "mine");
  await client.assistants.delete(assistantId);
});

test("a search is sorted, cut to pages and to columns", async () => {
  const owner = word();
  for (const name of ["b", "c", "a"]) await client.assistants.create({ graphId: "line", name, metadata: { owner } });
  const query = { metadata: { owner }, sortBy: "name", sortOrder: "asc", limit: 2, includePagination: true };
  const first = await client.assistants.search(query);
  assert.deepEqual(first.assistants.map((each) => each.name), ["a", "b"]);
  assert.equal(first.next, "2", "where the next page begins");
  const second = await client.assistants.search({ ...query, offset: 2 });
  assert.deepEqual(second.assistants.map((each) => each.name), ["c"]);
  assert.equal(second.next, null);
  assert.equal(await client.assistants.count({ metadata: { owner } }), 3);
  const [cut] = await client.assistants.search({ metadata: { owner }, select: ["assistant_id", "name"] });
  assert.deepEqual(Object.keys(cut).sort(), ["assistant_id", "name"]);
  const named = await client.assistants.search({ metadata: { owner }, name: "c" });
  assert.deepEqual(named.map((each) => each.name), ["c"]);
});

test("a graph is drawn, with and without what lies below", async () => {
  const names = (drawing) => drawing.nodes.map((node) => node.id).sort();
  const flat = await client.assistants.getGraph("nested");
  assert.deepEqual(names(flat), ["__end__", "__start__", "child", "first"]);
  assert.ok(flat.edges.some((edge) => edge.source === "first" && edge.target === "child"));
  const deep = await client.assistants.getGraph("nested", { xray: true });
  assert.ok(names(deep).includes("child:grandchild:deep"), names(deep).join());
  const level = await client.assistants.getGraph("nested", { xray: 1 });
  assert.ok(names(level).includes("child:grandchild"), names(level).join());
});

test("a graph is described", async () => {
  const schemas = await client.assistants.getSchemas(await idOf("typed"));
  assert.equal(schemas.graph_id, "typed");
  assert.deepEqual(Object.keys(schemas.input_schema.properties), ["question"]);
  assert.deepEqual(Object.keys(schemas.output_schema.properties), ["answer"]);
  assert.deepEqual(Object.keys(schemas.state_schema.properties).sort(), ["answer", "notes", "question"]);
  const contexts = await client.assistants.getSchemas(await idOf("dump_context"));
  assert.deepEqual(Object.keys(contexts.context_schema.properties), ["tone", "limit"]);
});

test("subgraphs are described, by name and recursively", async () => {
  const id = await idOf("nested");
  assert.deepEqual(Object.keys(await client.assistants.getSubgraphs(id)), ["child"]);
  const all = await client.assistants.getSubgraphs(id, { recurse: true });
  assert.deepEqual(Object.keys(all).sort(), ["child", "child|grandchild"]);
  assert.ok(all["child|grandchild"].state_schema.properties.log);
  const one = await client.assistants.getSubgraphs(id, { namespace: "child" });
  assert.deepEqual(Object.keys(one), ["child"]);
  assert.deepEqual(await client.assistants.getSubgraphs(await idOf("line")), {});
});

test("what is not there is 404, what makes no sense is 422", async () => {
  await assert.rejects(client.assistants.get(word()), status(404));
  await assert.rejects(client.assistants.update(word(), { name: "x" }), status(404));
  await assert.rejects(client.assistants.setLatest(word(), 1), status(404));
  await assert.rejects(client.assistants.create({ graphId: "no such graph" }), status(404));
  await assert.rejects(client.assistants.get("no uuid"), status(422));
});
